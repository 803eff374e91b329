import assert from 'node:assert/strict';
import test from 'node:test';
import { called, withRuntime } from './runtime.mjs';

const WEBHOOK_URL = 'https://phone.example.com/incoming-call';
const ADMITTED = `<Response><Redirect method="POST">${WEBHOOK_URL}</Redirect></Response>`;
const REFUSED = '<Response><Reject/></Response>';

const asks = (runtime, call, options) => runtime.ask('/allowlist-function', { call, ...options });

test('lists admit the right callers', async () => {
  // One list for each called number: +15550100000 has the first, +15550100001 the second, and so on.
  const cases = [
    ['+15550100100', ['+15550100100'], ['+15550100101', '+1555010010', '+155501001000', '15550100100']],
    [' +15550100100 ,  +15550100101,,', ['+15550100100', '+15550100101'], ['+15550100102', '']],
    ['+1 555 010 0100, \u202a+15550100101\u202c', ['+15550100100', '+15550100101'], ['+1 555 010 0100']],
    ['+15550100100 # Ada, +15550100101', ['+15550100100'], ['+15550100101']],
    ['# all friends\n+15550100100 # Ada\n#+15550100101\n+15550100102', ['+15550100100', '+15550100102'], ['+15550100101']],
    ['+44*', ['+447700900123', '+442079460123'], ['+15550100100', '+4', '+44', '+44*', '+4477009001234567']],
    ['+44*, +15550100100', ['+447700900123', '+15550100100'], ['+ 447700900123', '+４４7700900123']],
    ['+26*, +7*, +1*', ['+15550100100'], ['+266696687', '+1266696687', '+7378742833', '+17378742833']],
    ['*', ['+15550100100', 'anonymous', '+266696687', '', 'sip:ada@example.com', 'client:ada'], []],
    ['+15550100100, +2*', ['+15550100100'], ['anonymous', 'Anonymous', 'unknown', '+266696687', '+2562533', '',
      'sip:+15550100100@example.com', 'client:+15550100100', '+15550100100@example.com', '+15550100100\n',
      ' +15550100100', '+15550100100,', '+1555010010\uff10', '*', '+2*', '__proto__', 'constructor']],
  ];
  const lists = Object.fromEntries(cases.map(([list], at) => [`ALLOWED_NUMBERS_${15550100000 + at}`, list]));
  await withRuntime({ WEBHOOK_URL, ...lists }, async (runtime) => {
    for (const [at, [list, allowed, refused]] of cases.entries()) {
      const To = `+${15550100000 + at}`;
      for (const From of allowed) assert.equal(await asks(runtime, { From, To }), ADMITTED, `${list}: ${From}`);
      for (const From of refused) assert.equal(await asks(runtime, { From, To }), REFUSED, `${list}: ${From}`);
    }
    assert.equal(runtime.logged, '', 'nothing is wrong with these lists');
  });
});

test('an invalid list refuses everybody, and the log names it', async () => {
  const lists = [
    '', ' , ', '# nobody', '15550100100', '+15550100100 +15550100101', '+15550100100; +15550100101', '+0*', '+*', '**',
    '44*', '+4*4', '+44*, x', '＋44*', '+４４*', '+44＊', '+1-555-010-0100', '+1555010010010010',
    '.*', 'any', '+15550100100, [object Object]', `${'+15550100100,'.repeat(5000)}x`,
  ];
  const named = lists.map((list, at) => [`ALLOWED_NUMBERS_${15550100000 + at}`, list]);
  // An invalid list must not fall back to the general one.
  await withRuntime({ WEBHOOK_URL, ALLOWED_NUMBERS: '*', ...Object.fromEntries(named) }, async (runtime) => {
    for (const [name, list] of named) {
      runtime.logged = '';
      const call = { From: '+15550100142', To: name.replace('ALLOWED_NUMBERS_', '+') };
      assert.equal(await asks(runtime, call), REFUSED, list.slice(0, 40));
      await runtime.waitForLog(new RegExp(`\\b${name}\\b.*\n`));
      assert.ok(!runtime.logged.includes(call.From), runtime.logged);
    }
    assert.equal(await asks(runtime, { From: '+15550100100', To: '+15550109999' }), ADMITTED);
  });
});

test('requests that Twilio never sends', async () => {
  const settings = { WEBHOOK_URL, ALLOWED_NUMBERS: '+15550100100', ALLOWED_NUMBERS_15550100001: '+15550100101' };
  await withRuntime(settings, async (runtime) => {
    const json = { type: 'application/json' };
    const huge = '1'.repeat(2_000_000);
    for (const [call, options] of [
      [''],
      ['From=%2B15550100100&From=%2B15550100100'],
      ['From[]=%2B15550100100', { get: true }],
      ['From=%2B15550100100&From=%2B15550100101', { get: true }],
      ['From[toString]=x&To[length]=1', { get: true }],
      [`From=%2B${huge}&To=%2B${huge}`],
      ['From=%2B15550100100&To=%2B15550100001'],
      ['From=%2B15550100101&To=%2B15550100001&To=%2B15550100001'],
      ['From=%2B15550100101&To=15550100001'],
      ['From=%2B15550100100%00'],
      ['__proto__=x&constructor=y&From=__proto__&To=constructor'],
      ['{"From":["+15550100100"],"To":{"length":1}}', json],
      ['{"From":{"length":12},"__proto__":{"ALLOWED_NUMBERS":"*"},"request":null}', json],
      ['{"From":15550100100,"To":null}', json],
      ['["+15550100100"]', json],
    ]) {
      assert.equal(await asks(runtime, call, options), REFUSED, call.slice(0, 80));
    }
    // The general list applies to called numbers without a list of their own.
    for (const To of ['', '+15550100002', 'sip:line@example.com', '__proto__', 'constructor', `+${huge}`]) {
      assert.equal(await asks(runtime, { From: '+15550100100', To }), ADMITTED, To.slice(0, 40));
    }
    assert.equal(await asks(runtime, { From: '+15550100101', To: '+15550100001' }), ADMITTED);
    assert.equal(await asks(runtime, 'From=%2B15550100100', { get: true }), ADMITTED, 'GET works too');
    assert.equal(runtime.logged, '');
  });
});

test('a missing or invalid setting refuses everybody and is logged by name', async () => {
  for (const [settings, words] of [
    [{ ALLOWED_NUMBERS: '*' }, /WEBHOOK_URL/],
    [{ WEBHOOK_URL }, /ALLOWED_NUMBERS/],
    [{ WEBHOOK_URL: 'http://phone.example.com/incoming-call', ALLOWED_NUMBERS: '*' }, /WEBHOOK_URL/],
  ]) {
    await withRuntime(settings, async (runtime) => {
      assert.equal(await asks(runtime, { From: '+15550100100', To: '+15550100001' }), REFUSED);
      await runtime.waitForLog(words);
    });
  }
});

const directly = (settings, call) => called('allowlist-function.js', settings, call);

test('an impossible WEBHOOK_URL refuses everybody', () => {
  for (const url of [
    '',
    'phone.example.com/incoming-call',
    'javascript:alert(1)//incoming-call',
    'javascript://localhost/incoming-call',
    'ftp://localhost/incoming-call',
    'wss://127.0.0.1/incoming-call',
    'file:///incoming-call',
    'wss://phone.example.com/incoming-call',
    'https://<your-app>.fly.dev/incoming-call',
    'https://${APP}.fly.dev/incoming-call',
    'https://switchboard/incoming-call',
    'http://127.0.0.1.example.com/incoming-call',
    'https://phone.example.com',
    'https://phone.example.com/incoming-call/',
    'https://phone.example.com/incoming-call?x=1',
    'https://phone.example.com/#/incoming-call',
    'https://ada:lace@phone.example.com/incoming-call',
  ]) {
    const { twiml, logged } = directly({ WEBHOOK_URL: url, ALLOWED_NUMBERS: '*' }, { From: '+15550100100' });
    assert.equal(twiml, REFUSED, url);
    assert.match(logged, /WEBHOOK_URL/, url);
    assert.ok(!logged.includes('lace'));
  }
  const here = { WEBHOOK_URL: 'http://127.0.0.1:5050/incoming-call', ALLOWED_NUMBERS: '*' };
  assert.match(directly(here, {}).twiml, /<Redirect method="POST">http:\/\/127\.0\.0\.1:5050\/incoming-call</);
});

test('settings that no .env can express', () => {
  const From = '+15550100101';
  for (const list of ['+15550100100 # Ada\u2028+15550100101', '+15550100100 # Ada\u0085,+15550100101']) {
    assert.equal(directly({ WEBHOOK_URL, ALLOWED_NUMBERS: list }, { From }).twiml, REFUSED, list);
  }
  for (const list of ['+15550100100 # Ada\r\n+15550100101', '+15550100100 # Ada\r\t+15550100101\t']) {
    assert.equal(directly({ WEBHOOK_URL, ALLOWED_NUMBERS: list }, { From }).twiml, ADMITTED, list);
  }
  for (const name of ['ALLOWED_NUMBERS_CLINIC', 'ALLOWED_NUMBERS_', 'ALLOWED_NUMBERS_0155501000']) {
    const { twiml, logged } = directly({ WEBHOOK_URL, ALLOWED_NUMBERS: '*', [name]: '+15550100101' }, { From });
    assert.equal(twiml, REFUSED);
    assert.match(logged, new RegExp(`${name} `));
  }
});

test('a note after the address is ignored', () => {
  const { twiml } = directly({ WEBHOOK_URL: `${WEBHOOK_URL} # the app on Fly`, ALLOWED_NUMBERS: '*' }, {});
  assert.equal(twiml, ADMITTED);
});

test('messages and addresses are escaped', async () => {
  const settings = {
    WEBHOOK_URL: ' https://PHONE.example.com:443/a&b<c>"d\'/incoming-call ',
    ALLOWED_NUMBERS: '+15550100100',
    REJECT_MESSAGE: 'Sorry, <Dial>+15550100101</Dial> & "we"\u0001 do not\b know you.',
  };
  await withRuntime(settings, async (runtime) => {
    assert.equal(
      await asks(runtime, { From: '+15550100101' }),
      '<Response><Say>Sorry, &lt;Dial&gt;+15550100101&lt;/Dial&gt; &amp; "we"  do not  know you.</Say><Hangup/></Response>'
    );
    assert.equal(
      await asks(runtime, { From: '+15550100100' }),
      '<Response><Redirect method="POST">https://phone.example.com/a&amp;b%3Cc%3E%22d\'/incoming-call</Redirect></Response>'
    );
  });
});

test('a refusal is said in the language of the settings, unless there is nothing to say', async () => {
  const settings = { WEBHOOK_URL: 'https://phone.example.com/incoming-call', ALLOWED_NUMBERS: '+15550100100' };
  for (const [more, answer] of [
    [{ MESSAGE_LANGUAGE: 'de', REJECT_MESSAGE: 'Kein Anschluss.' }, '<Say language="de-DE">Kein Anschluss.</Say><Hangup/>'],
    [{ MESSAGE_LANGUAGE: 'German', REJECT_MESSAGE: 'Nein.' }, '<Say>Nein.</Say><Hangup/>'],
    [{ MESSAGE_LANGUAGE: 'de', REJECT_MESSAGE: ' … ' }, '<Reject/>'],
  ]) {
    await withRuntime({ ...settings, ...more }, async (runtime) => {
      assert.equal(await asks(runtime, { From: '+15550100101' }), `<Response>${answer}</Response>`);
    });
  }
});
