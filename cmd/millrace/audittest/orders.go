package audittest

func foldOrders(events []Event) *model {
	orders := newTable("number")
	states(events, "order", evolveOrder, func(e *Event, o object) {
		orders.set(object{
			"number": e.id(), "status": o["status"], "subject": o.text("subject"), "placed_at": instantOf(o.text("placedAt")), "document": o,
		})
	})
	return &model{tables: map[string]*table{"orders": orders}}
}

// evolveOrder folds an order's document. Contact and payment token are what the event has: sealed.
func evolveOrder(o object, e *Event) object {
	d := e.fields()
	switch e.Type {
	case "order.placed":
		return d.with("status", "PENDING")
	case "order.confirmed":
		return o.with("status", "CONFIRMED")
	case "order.fulfilled":
		o = moveUnits(o, d.objects("lines"), "fulfilled", "FULFILLED")
		if tracking := d.text("tracking"); tracking != "" {
			o["tracking"] = tracking
		}
		return o
	case "order.cancelled":
		o = o.with("status", "CANCELLED")
		o.put("cancelReason", d.text("reason"))
		return o
	case "order.returned":
		return moveUnits(o, d.objects("lines"), "returned", "RETURNED")
	}
	return o
}

// moveUnits counts units of lines, and gives the order a status once every unit is counted.
func moveUnits(o object, units []object, member, status string) object {
	lines, complete := o["lines"], true
	for _, u := range units {
		lines = change(object{"l": lines}.objects("l"), "id", u.text("id"), func(l object) object {
			return l.with(member, l.number(member)+u.number("quantity"))
		})
	}
	o = o.with("lines", lines)
	for _, l := range o.objects("lines") {
		complete = complete && l.number(member) == l.number("quantity")
	}
	if complete {
		o["status"] = status
	}
	return o
}

func foldSales(events []Event) *model {
	orders, returns := newTable("number"), newTable("number", "version")
	states(events, "order", evolveOrder, func(e *Event, o object) {
		country := o.text("country")
		if country == "" {
			country = "Unspecified"
		}
		row := object{
			"number": e.id(), "at": instantOf(o.text("placedAt")), "country": country, "currency": o["currency"],
			"counted": o["status"] != "PENDING" && o["status"] != "CANCELLED",
		}
		ids, skus, counts, prices, units, amount := []any{}, []any{}, []any{}, []any{}, int64(0), int64(0)
		for _, l := range o.objects("lines") {
			n, price := l.number("quantity"), l.object("unitPrice").number("minor")
			ids, skus, counts, prices = append(ids, l["id"]), append(skus, l["sku"]), append(counts, n), append(prices, price)
			units += n
			amount += n * price
		}
		row["line_ids"], row["skus"], row["line_units"], row["line_prices"], row["units"], row["amount"] = ids, skus, counts, prices, units, amount
		orders.set(row)
		if e.Type == "order.returned" {
			returns.set(returnOf(e, o, country))
		}
	})
	return &model{tables: map[string]*table{"orders": orders, "returns": returns}}
}

func returnOf(e *Event, o object, country string) object {
	skus, amounts := []any{}, []any{}
	for _, back := range e.fields().objects("lines") {
		for _, l := range o.objects("lines") {
			if l.text("id") == back.text("id") {
				skus = append(skus, l["sku"])
				amounts = append(amounts, l.object("unitPrice").number("minor")*back.number("quantity"))
			}
		}
	}
	return object{
		"number": e.id(), "version": e.Version, "at": instant(e.OccurredAt), "country": country, "currency": o["currency"],
		"amount": e.fields().object("amount").number("minor"), "skus": skus, "line_amounts": amounts,
	}
}
