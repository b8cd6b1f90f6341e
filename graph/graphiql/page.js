// Starts GraphiQL on this server's API. Queries and mutations go by POST, subscriptions by graphql-transport-ws; what is
// typed as headers goes along with both.
(function () {
  'use strict';
  var endpoint = document.body.dataset.endpoint;

  var welcome = [
    '# Everything in the shop can be read and done here.',
    '#',
    '# Shoppers need no token. What is marked "Staff" in the',
    '# documentation (the book on the left) needs the token that',
    '# was printed when the shop was started, under Headers:',
    '#   {"Authorization": "Bearer <token>"}',
    '#',
    '# The answer to a mutation carries the position of its',
    '# effect. Send it back as the header Millrace-Position, and',
    '# the next query is sure to show it.',
    '',
    'query Browse {',
    '  products(first: 5) {',
    '    nodes {',
    '      id title slug',
    '      variants { sku price { amount currency } available }',
    '    }',
    '    pageInfo { hasNextPage endCursor }',
    '  }',
    '}',
    '',
    '# mutation Fill {',
    '#   cartCreate(input: {lines: [{sku: "22197", quantity: 2}]}) {',
    '#     cart { id lines { quantity variant { title } } total { amount } }',
    '#     userErrors { field code message }',
    '#     position',
    '#   }',
    '# }',
    '',
    '# subscription Watch {',
    '#   stockChanged(skus: ["22197"]) { sku title available }',
    '# }',
    ''
  ].join('\n');

  function post(params, options) {
    return fetch(endpoint, {
      method: 'POST',
      headers: Object.assign({ 'Content-Type': 'application/json', Accept: 'application/json' }, options && options.headers),
      body: JSON.stringify(params)
    }).then(function (r) { return r.json(); });
  }

  function authorization(headers) {
    var name = Object.keys(headers || {}).find(function (k) { return k.toLowerCase() === 'authorization'; });
    return name ? { authorization: headers[name] } : {};
  }

  function isSubscription(params, options) {
    var definitions = (options && options.documentAST && options.documentAST.definitions) || [];
    return definitions.some(function (d) {
      return d.kind === 'OperationDefinition' && d.operation === 'subscription' &&
        (!params.operationName || (d.name && d.name.value === params.operationName));
    });
  }

  // subscribe returns an async iterator over the answers of one subscription, on a socket of its own.
  function subscribe(params, options) {
    var client = graphqlWs.createClient({
      url: location.origin.replace(/^http/, 'ws') + endpoint,
      connectionParams: authorization(options && options.headers),
      retryAttempts: 3
    });
    var waiting = [], answers = [], over = false, failure = null;
    function wake() { while (waiting.length) { waiting.shift()(); } }
    var stop = client.subscribe(params, {
      next: function (a) { answers.push(a); wake(); },
      error: function (e) { failure = Array.isArray(e) ? { errors: e } : { errors: [{ message: e.reason || String(e) }] }; over = true; wake(); },
      complete: function () { over = true; wake(); }
    });
    function close() { stop(); client.dispose(); }
    return {
      next: function take() {
        if (answers.length) { return Promise.resolve({ value: answers.shift(), done: false }); }
        if (failure) { var f = failure; failure = null; return Promise.resolve({ value: f, done: false }); }
        if (over) { close(); return Promise.resolve({ value: undefined, done: true }); }
        return new Promise(function (resolve) { waiting.push(resolve); }).then(take);
      },
      return: function () { close(); return Promise.resolve({ value: undefined, done: true }); },
      throw: function (e) { close(); return Promise.reject(e); },
      [Symbol.asyncIterator]: function () { return this; }
    };
  }

  ReactDOM.createRoot(document.getElementById('graphiql')).render(React.createElement(GraphiQL, {
    fetcher: function (params, options) { return isSubscription(params, options) ? subscribe(params, options) : post(params, options); },
    defaultQuery: welcome,
    defaultEditorToolsVisibility: 'headers',
    defaultHeaders: '{}',
    shouldPersistHeaders: false
  }));
})();
