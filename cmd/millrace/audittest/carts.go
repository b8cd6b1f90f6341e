package audittest

func foldCarts(events []Event) *model {
	docs := documents{}
	states(events, "cart", evolveCart, docs.set)
	return &model{documents: docs}
}

func evolveCart(c object, e *Event) object {
	d, lines, sku := e.fields(), c.objects("lines"), e.fields().text("sku")
	switch e.Type {
	case "cart.created":
		return object{"currency": d["currency"], "status": "OPEN"}
	case "cart.line_added":
		known := false
		changed := change(lines, "sku", sku, func(l object) object {
			known = true
			return d.with("quantity", l.number("quantity")+d.number("quantity"))
		})
		if !known {
			changed = append(changed, map[string]any(d))
		}
		return c.with("lines", changed)
	case "cart.line_changed":
		return c.with("lines", change(lines, "sku", sku, func(l object) object { return l.with("quantity", d["quantity"]) }))
	case "cart.line_removed":
		var left []any
		for _, l := range lines {
			if l.text("sku") != sku {
				left = append(left, map[string]any(l))
			}
		}
		c = c.with("lines", left)
		if len(left) == 0 {
			delete(c, "lines")
		}
		return c
	case "cart.checked_out":
		return c.with("status", "CHECKED_OUT").with("order", d["order"])
	}
	return c
}
