// Package payment decides what becomes of the money for an order.
//
// The payment of an order is the stream payment-<order>. Its states are
//
//	(none) ──► AUTHORISED ──► CAPTURED ──► REFUNDED
//	   │            │
//	   │            └──► VOIDED
//	   └──► DECLINED
//
// AUTHORISED is money that the provider keeps for the shop, CAPTURED is money that the shop has; VOIDED was let go without
// being taken. REFUNDED means that all was given back: what was refunded in part is CAPTURED. DECLINED, VOIDED and
// REFUNDED are final.
//
// Invariants: 0 ≤ refunded ≤ captured ≤ authorised, all in one currency; one authorisation a payment.
//
// Who commands a payment does so at least once. Every command that is repeated is therefore answered without an event,
// also when the payment has come further since. For that reason a refund says what shall have been given back in all, not
// how much more.
package payment
