package projectortest

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// The witness writes down which partitions' events write a row, while they are folded one at a time. The engine moves the
// checkpoint of their partition first, in the transaction of their rows. A transaction that moves several tells nothing: what
// a lost server made fail is folded together with others.
var witness = []string{
	`CREATE TABLE witness (relation text, key text, partition smallint, PRIMARY KEY (relation, key, partition))`,
	`CREATE FUNCTION witness_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
	DECLARE
		partitions smallint[];
		written jsonb;
	BEGIN
		SELECT array_agg(partition) INTO partitions FROM checkpoints WHERE xmin = pg_current_xact_id()::xid AND store = 'postgres';
		IF cardinality(partitions) = 1 THEN
			FOREACH written IN ARRAY ARRAY[to_jsonb(OLD), to_jsonb(NEW)] LOOP
				CONTINUE WHEN written IS NULL;
				INSERT INTO witness SELECT TG_TABLE_NAME, jsonb_agg(written -> column_name ORDER BY place), partitions[1]
					FROM unnest(TG_ARGV) WITH ORDINALITY AS k(column_name, place) ON CONFLICT DO NOTHING;
			END LOOP;
		END IF;
		RETURN NULL;
	END $$`,
	`CREATE FUNCTION set_witness(of_version integer) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		t record;
	BEGIN
		FOR t IN SELECT relation, (SELECT string_agg(quote_literal(attname), ', ' ORDER BY place)
				FROM pg_index JOIN pg_attribute ON attrelid = indrelid, unnest(indkey::smallint[]) WITH ORDINALITY AS k(number, place)
				WHERE indrelid = relation::regclass AND indisprimary AND attnum = number) AS key
			FROM projections p, unnest(p.tables) AS relation WHERE p.version = of_version AND p.status = 'live'
		LOOP
			IF t.key IS NULL THEN
				RAISE EXCEPTION 'table % has no primary key', t.relation;
			END IF;
			EXECUTE format('CREATE TRIGGER witness AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION witness_write(%s)', t.relation, t.key);
		END LOOP;
	END $$`,
}

// setWitness has the rows watched that are folded one event at a time.
func (k *Kit) setWitness(ctx context.Context) error {
	return pgx.BeginFunc(ctx, k.admin, func(tx pgx.Tx) error {
		for _, sql := range witness {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, `SELECT set_witness($1)`, versionSingly)
		return err
	})
}

// torn lists the rows that events of several partitions have written.
func (k *Kit) torn(ctx context.Context) ([]string, error) {
	rows, err := k.admin.Query(ctx, `SELECT format('PostgreSQL: the row %s of %s.%s is written by events of partitions %s: one row, one partition', key, $1::text, relation,
		  string_agg(partition::text, ' and ' ORDER BY partition))
		FROM witness GROUP BY relation, key HAVING count(*) > 1 ORDER BY relation, key`, k.projection.Name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
