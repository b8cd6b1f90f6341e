package audittest

func foldStock(events []Event) *model {
	levels, docs := newTable("sku"), documents{}
	states(events, "stock", evolveStock, func(e *Event, s object) {
		docs.set(e, s)
		levels.set(object{"sku": e.id(), "product": s["product"], "on_hand": s.number("onHand"), "reserved": s.number("reserved")})
	})
	return &model{tables: map[string]*table{"levels": levels}, documents: docs}
}

func evolveStock(s object, e *Event) object {
	d := e.fields()
	if e.Type == "stock.opened" {
		return object{"sku": d["sku"], "product": d["product"]}
	}
	onHand, reserved, n := s.number("onHand"), s.number("reserved"), d.number("quantity")
	switch e.Type {
	case "stock.received", "stock.returned":
		onHand += n
	case "stock.adjusted":
		onHand += d.number("delta")
	case "stock.reserved":
		reserved += n
	case "stock.released":
		reserved -= n
	case "stock.shipped":
		onHand -= n
		reserved -= n
	case "stock.sold":
		onHand -= n
	}
	s = s.with("onHand", onHand)
	s.put("onHand", onHand)
	s.put("reserved", reserved)
	return s
}
