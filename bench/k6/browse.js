// Shoppers look at lists of products and at single ones, so many a second, however long the answers take.
import { check } from 'k6';
import { list, must, number, product, url } from './millrace.js';

const rate = number('RATE', 50);

export const options = {
  scenarios: {
    browse: {
      executor: 'constant-arrival-rate', rate, timeUnit: '1s', duration: __ENV.DURATION || '30s', preAllocatedVUs: 20, maxVUs: 400,
    },
  },
  thresholds: {
    checks: ['rate>0.99'],
    http_req_failed: ['rate<0.01'],
    'http_req_duration{name:list}': [`p(99)<${number('P99', 250)}`],
    'http_req_duration{name:product}': [`p(99)<${number('P99', 250)}`],
    dropped_iterations: ['count==0'], // the shop, or this machine, cannot do so many a second
  },
};

// setup looks once whether there is a shop, so that a wrong URL is said once.
export function setup() {
  must(list(), `there is no shop at ${url}`);
}

export default function () {
  const page = must(list(), 'there is no list of products');
  check(page, { 'there is something to buy': (p) => p.nodes.length > 0 });
  if (page.nodes.length === 0) return;
  const one = page.nodes[Math.floor(Math.random() * page.nodes.length)];
  check(product(one.slug), { 'a product of the list has a page': (p) => p !== null && p.title === one.title });
}
