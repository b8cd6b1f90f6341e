// A crowd wants the few units of one SKU, while others browse. Exactly as many are sold as there are. It needs a staff token, which creates
// what is sold.
import { sleep } from 'k6';
import exec from 'k6/execution';
import { ask, buy, list, must, number, product } from './millrace.js';

const units = number('UNITS', 100);
const buyers = number('BUYERS', 1000);
const expected = Math.min(units, buyers);

export const options = {
  scenarios: {
    crowd: {
      executor: 'shared-iterations', exec: 'crowd', vus: Math.min(number('CONCURRENCY', 64), buyers), iterations: buyers, maxDuration: '5m',
    },
    browsing: {
      executor: 'constant-arrival-rate', exec: 'browse', rate: number('RATE', 20), timeUnit: '1s', duration: __ENV.DURATION || '10s',
      preAllocatedVUs: 10, maxVUs: 200,
    },
  },
  thresholds: {
    sold: [`count==${expected}`],
    ...(buyers > expected ? { refused: [`count==${buyers - expected}`], refusal: [`p(99)<${number('P99', 250)}`] } : {}),
    failed: ['count==0'],
    checks: ['rate>0.99'],
    checkout: [`p(99)<${number('P99', 250)}`],
    'http_req_duration{scenario:browsing}': [`p(99)<${number('BROWSING_P99', 250)}`],
  },
};

export function setup() {
  const token = must(__ENV.STAFF_TOKEN, 'STAFF_TOKEN is not set: millrace up prints it');
  const run = `${Date.now()}-${Math.floor(Math.random() * 1e6)}`;
  const sku = `K6-${run}`;
  const created = must(ask('productCreate', 'mutation($input: ProductCreateInput!) { productCreate(input: $input) { product { slug } userErrors { message } } }',
    { input: { title: `Flash sale ${run}`, status: 'ACTIVE', variants: [{ sku, price: '12.50' }] } }, token), 'the product was not created').productCreate;
  must(created.product, JSON.stringify(created.userErrors));
  const received = must(ask('stockReceive', 'mutation($input: StockReceiveInput!) { stockReceive(input: $input) { userErrors { message } } }',
    { input: { sku, quantity: units } }, token), 'the units were not taken in').stockReceive;
  must(received.userErrors.length === 0, JSON.stringify(received.userErrors));
  for (let n = 0; n < 100; n++) {
    const page = product(created.product.slug);
    if (page && page.variants[0].available === units) return { sku, run, slug: created.product.slug };
    sleep(0.1);
  }
  throw new Error('the product was not to be seen within ten seconds');
}

export function crowd({ sku, run }) {
  buy(sku, `${run}-${exec.scenario.iterationInTest}`);
}

export function browse({ slug }) {
  if (exec.scenario.iterationInTest % 2) product(slug);
  else list();
}
