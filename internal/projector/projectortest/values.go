package projectortest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
)

// collect reads rows as values of the wanted ones' types.
func collect(rows pgx.Rows, want []Row) ([]Row, error) {
	var all []Row
	defer rows.Close()
	for rows.Next() {
		model := make(Row, len(rows.FieldDescriptions()))
		if len(want) > 0 {
			copy(model, want[min(len(all), len(want)-1)])
		}
		row, err := read(rows, model)
		if err != nil {
			return all, fmt.Errorf("row %d: %w", len(all)+1, err)
		}
		all = append(all, row)
	}
	return all, rows.Err()
}

// read reads a row as values of the model's types.
func read(rows pgx.Rows, model Row) (Row, error) {
	targets := make([]any, len(model))
	for i, like := range model {
		switch {
		case like == nil:
			targets[i] = new(any)
		case isJSON(reflect.TypeOf(like)):
			targets[i] = new([]byte)
		default:
			targets[i] = reflect.New(reflect.TypeOf(like)).Interface()
		}
	}
	if err := rows.Scan(targets...); err != nil {
		return nil, err
	}
	row := make(Row, len(model))
	for i, like := range model {
		row[i] = reflect.ValueOf(targets[i]).Elem().Interface()
		if like == nil || !isJSON(reflect.TypeOf(like)) {
			continue
		}
		var err error
		if row[i], err = fromJSON(row[i].([]byte), like); err != nil {
			return nil, err
		}
	}
	return row, nil
}

// isJSON reports whether values of the type are stored as JSON.
func isJSON(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return isJSON(t.Elem())
	case reflect.Map:
		return true
	case reflect.Struct:
		return t != reflect.TypeFor[time.Time]()
	default:
		return false
	}
}

// fromJSON decodes a value of a type like another's.
func fromJSON(data []byte, like any) (any, error) {
	if like == nil {
		return readable(data), nil
	}
	v := reflect.New(reflect.TypeOf(like))
	if err := json.Unmarshal(data, v.Interface()); err != nil {
		return nil, fmt.Errorf("reading %s: %w", data, err)
	}
	return v.Elem().Interface(), nil
}
