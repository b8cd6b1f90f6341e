package graph_test

import "github.com/millrace/millrace/graph/model"

func idOf(kind, id string) string { return model.GlobalID(kind, id) }
