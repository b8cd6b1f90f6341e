// What the scripts share: how one speaks to a shop, and what shoppers do there.
import http from 'k6/http';
import { check, fail, sleep } from 'k6';
import { Counter, Trend } from 'k6/metrics';

export const url = __ENV.URL || 'http://127.0.0.1:8080/graphql';

// number returns a setting, or what it is without.
export function number(name, fallback) {
  const value = Number(__ENV[name] || fallback);
  if (!(value > 0)) throw new Error(`${name} must be a number above 0, not ${__ENV[name]}`);
  return value;
}

export const sold = new Counter('sold');
export const refused = new Counter('refused');
export const failed = new Counter('failed');
export const again = new Counter('again'); // requests that were sent again, because the shop had no room
const cartTime = new Trend('cart', true);
const checkoutTime = new Trend('checkout', true);
const refusalTime = new Trend('refusal', true);
const confirmationTime = new Trend('confirmation', true);

const patience = 30; // seconds that a shopper goes on asking

// ask sends a GraphQL request. Where the shop says that it has no room now, it asks again after the pause that the answer names: nothing has
// happened. It returns the data, or null where there is none.
export function ask(name, query, variables, token) {
  const headers = { 'Content-Type': 'application/json' };
  if (token) headers.Authorization = `Bearer ${token}`;
  const body = JSON.stringify({ query, variables });
  for (const began = Date.now(); ; ) {
    const response = http.post(url, body, { headers, tags: { name } });
    const pause = Number(response.headers['Retry-After'] || 1);
    if (response.status === 503 && Date.now() - began + 1000 * pause < 1000 * patience) {
      again.add(1);
      sleep(pause);
      continue;
    }
    const answer = response.status === 200 ? response.json() : null;
    const ok = check(response, { [`${name} is answered`]: () => answer !== null && !answer.errors });
    if (!ok) console.warn(`${name}: HTTP ${response.status} ${response.body || response.error}`);
    return ok ? answer.data : null;
  }
}

const listQuery = `query($after: String) { products(first: 20, after: $after, filter: {inStock: true}) { totalCount pageInfo { hasNextPage endCursor }
  nodes { id slug title variants { sku price { amount currency } available } } } }`;
const productQuery = `query($slug: String!) { product(slug: $slug) { id title description variants { sku title price { amount currency } available } } }`;

// list returns a page of the products that can be bought.
export function list(after) {
  const data = ask('list', listQuery, { after: after || null });
  return data ? data.products : null;
}

// product returns a product's page.
export function product(slug) {
  const data = ask('product', productQuery, { slug });
  return data ? data.product : null;
}

const cartMutation = `mutation($input: CartCreateInput!) { cartCreate(input: $input) { cart { id total { amount } } userErrors { code message } } }`;
const checkoutMutation = `mutation($input: CheckoutInput!) { checkout(input: $input) {
  order { id number status total { amount } } accessToken userErrors { code message } } }`;

// buy puts one unit into a cart and checks out. It returns the order with its accessToken, or null; the counters tell which it was. The key
// makes a checkout that is sent again one order.
export function buy(sku, key) {
  let began = Date.now();
  const cart = ask('cart', cartMutation, { input: { lines: [{ sku, quantity: 1 }] } });
  if (cart === null || cart.cartCreate.userErrors.length > 0) {
    failed.add(1);
    return null;
  }
  cartTime.add(Date.now() - began);
  began = Date.now();
  const done = ask('checkout', checkoutMutation, {
    input: {
      cartId: cart.cartCreate.cart.id, email: 'buyer@example.com', payment: { token: 'ok' }, idempotencyKey: key,
      shippingAddress: { name: 'A buyer', line1: '1 Mill Lane', city: 'London', postcode: 'N1 1AA', country: 'GB' },
    },
  });
  const took = Date.now() - began;
  const code = done && done.checkout.userErrors.length > 0 ? done.checkout.userErrors[0].code : '';
  if (code === 'OUT_OF_STOCK') {
    refused.add(1);
    refusalTime.add(took);
    return null;
  }
  if (done === null || code !== '') {
    console.warn(`checkout: ${code}`);
    failed.add(1);
    return null;
  }
  sold.add(1);
  checkoutTime.add(took);
  return { ...done.checkout.order, accessToken: done.checkout.accessToken };
}

// awaitConfirmation returns whether an order is confirmed within the patience of its buyer.
export function awaitConfirmation(order) {
  for (const began = Date.now(); Date.now() - began < 1000 * patience; ) {
    const data = ask('order', 'query($id: ID!, $token: String!) { order(id: $id, accessToken: $token) { status } }',
      { id: order.id, token: order.accessToken });
    if (data && data.order && data.order.status === 'CONFIRMED') {
      confirmationTime.add(Date.now() - began);
      return true;
    }
    sleep(0.25);
  }
  return false;
}

// must returns what it is given, and ends the iteration where that is nothing.
export function must(value, what) {
  if (!value) fail(what);
  return value;
}
