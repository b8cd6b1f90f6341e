package audittest

// model is what a read model has to hold at the end of the log.
type model struct {
	tables    map[string]*table
	documents map[int]map[string]object // by partition and key; nil: it is not in Redis
}

// table is the rows of a table by the values of its key columns.
type table struct {
	key  []string
	rows map[string]object
}

func newTable(key ...string) *table { return &table{key: key, rows: make(map[string]object)} }

func (t *table) keyOf(row object) string {
	values := make([]any, len(t.key))
	for i, column := range t.key {
		values[i] = row[column]
	}
	return canonical(values)
}

func (t *table) set(row object) { t.rows[t.keyOf(row)] = row }

// models are the folds of all read models there are.
var models = map[string]func([]Event) *model{
	"carts": foldCarts, "catalogue": foldCatalogue, "orders": foldOrders, "payments": foldPayments, "sales": foldSales, "stock": foldStock,
}

// documents collects one document for each stream.
type documents map[int]map[string]object

func (d documents) set(e *Event, o object) {
	if d[e.Partition] == nil {
		d[e.Partition] = make(map[string]object)
	}
	d[e.Partition][e.Stream] = o
}

// states folds the streams of a category, each into an object, in the order of the log; after sees each state that an event leaves.
func states(events []Event, category string, evolve func(s object, e *Event) object, after func(e *Event, s object)) {
	streams := make(map[string]object)
	for i := range events {
		e := &events[i]
		if e.category() != category {
			continue
		}
		s := evolve(streams[e.Stream], e)
		streams[e.Stream] = s
		after(e, s)
	}
}

// change returns a list with one of its objects, that whose member has a value, replaced.
func change(list []object, member, value string, to func(object) object) []any {
	changed := make([]any, len(list))
	for i, o := range list {
		if o.text(member) == value {
			o = to(o)
		}
		changed[i] = map[string]any(o)
	}
	return changed
}
