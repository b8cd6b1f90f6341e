package audittest

// foldPayments folds the to-do lists of the payment process. What was imported is in none of them.
func foldPayments(events []Event) *model {
	orders, payments := newTable("order_id"), newTable("order_id")
	states(events, "order", func(row object, e *Event) object {
		d := e.fields()
		switch {
		case e.Type == "order.placed" && d["imported"] == true:
			return nil
		case e.Type == "order.placed":
			return object{
				"order_id": e.id(), "status": "PENDING", "placed_at": instantOf(d.text("placedAt")), "payment_due": instantOf(d.text("paymentDue")),
				"returned": int64(0), "abandoned_at": nil,
			}
		case row == nil:
			return nil
		case e.Type == "order.confirmed":
			return row.with("status", "CONFIRMED")
		case e.Type == "order.fulfilled":
			return row.with("status", "FULFILLED")
		case e.Type == "order.cancelled":
			declined := d.text("by") == "system" && d.text("reason") == "the payment was declined"
			if row["status"] == "PENDING" && !declined {
				row = row.with("abandoned_at", instant(e.OccurredAt))
			}
			return row.with("status", "CANCELLED")
		case e.Type == "order.returned":
			return row.with("returned", row.number("returned")+d.object("amount").number("minor"))
		}
		return row
	}, orders.setUnlessNone)
	states(events, "payment", func(row object, e *Event) object {
		d := e.fields()
		switch {
		case e.Type == "payment.authorised" && d.text("reference") == "imported":
			return nil
		case e.Type == "payment.authorised":
			return object{"order_id": e.id(), "status": "AUTHORISED", "refunded": int64(0)}
		case e.Type == "payment.declined":
			return object{"order_id": e.id(), "status": "DECLINED", "refunded": row.number("refunded")}
		case row == nil:
			return nil
		case e.Type == "payment.captured":
			return row.with("status", "CAPTURED")
		case e.Type == "payment.voided":
			return row.with("status", "VOIDED")
		case e.Type == "payment.refunded":
			return row.with("refunded", row.number("refunded")+d.object("amount").number("minor"))
		}
		return row
	}, payments.setUnlessNone)
	return &model{tables: map[string]*table{"orders": orders, "payments": payments}}
}

func (t *table) setUnlessNone(_ *Event, row object) {
	if row != nil {
		t.set(row)
	}
}
