// Shoppers buy what is in stock: a cart, a checkout, and the payment, which they wait for.
import { check } from 'k6';
import exec from 'k6/execution';
import { awaitConfirmation, buy, list, must, number } from './millrace.js';

export const options = {
  scenarios: {
    checkout: {
      executor: 'constant-arrival-rate', rate: number('RATE', 20), timeUnit: '1s', duration: __ENV.DURATION || '30s',
      preAllocatedVUs: 100, maxVUs: 1000, gracefulStop: '40s', // the payments of the last orders are waited for
    },
  },
  thresholds: {
    checks: ['rate>0.99'],
    http_req_failed: ['rate<0.01'],
    sold: ['count>0'],
    failed: ['count==0'],
    cart: [`p(99)<${number('P99', 250)}`],
    checkout: [`p(99)<${number('P99', 250)}`],
    confirmation: [`p(99)<${number('CONFIRMED_P99', 5000)}`],
    dropped_iterations: ['count==0'],
  },
};

export function setup() {
  // Only of what there is plenty: two may want the last one.
  const skus = [];
  for (let page = must(list(), 'there is no list of products'); ; page = must(list(page.pageInfo.endCursor), 'the list of products ends early')) {
    for (const p of page.nodes) {
      for (const v of p.variants) if (v.available > 10) skus.push(v.sku);
    }
    if (skus.length >= 100 || !page.pageInfo.hasNextPage) break;
  }
  must(skus.length, 'there is nothing of which there are more than ten');
  return { skus, run: `${Date.now()}-${Math.random()}` };
}

export default function ({ skus, run }) {
  const n = exec.scenario.iterationInTest;
  const order = buy(skus[n % skus.length], `${run}-${n}`);
  if (order) check(order, { 'the order is confirmed': awaitConfirmation });
}
