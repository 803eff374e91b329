import assert from 'node:assert/strict';
import test from 'node:test';
import { withRuntime } from './runtime.mjs';

const SORRY = '<Say language="en-US">Sorry, we cannot take your call right now. Please call again later.</Say>';
const DIAL = '<Dial timeout="30" callerId="+15550100001">+15550100009</Dial>';
const CALL = { From: '+15550100100', To: '+15550100001', ErrorCode: '11200' };

const asks = (runtime, call, options) => runtime.ask('/fallback-function', { call, ...options });

test('without settings the default sentence is said and the call ends', async () => {
  await withRuntime({}, async (runtime) => {
    assert.equal(await asks(runtime, CALL), `<Response>${SORRY}<Hangup/></Response>`);
    assert.equal(await asks(runtime, ''), `<Response>${SORRY}<Hangup/></Response>`);
    assert.equal(runtime.logged, '');
  });
});

test('a person is called, once', async () => {
  await withRuntime({ FALLBACK_NUMBER: ' \u202a+1 555 010 0009\u202c ' }, async (runtime) => {
    assert.equal(await asks(runtime, CALL), `<Response>${SORRY}${DIAL}<Hangup/></Response>`);
    assert.equal(await asks(runtime, 'To=%2B15550100001', { get: true }), `<Response>${SORRY}${DIAL}<Hangup/></Response>`);
    for (const To of ['sip:line@example.com', '']) {
      const own = '<Dial timeout="30">+15550100009</Dial>';
      assert.equal(await asks(runtime, { ...CALL, To }), `<Response>${SORRY}${own}<Hangup/></Response>`);
    }
    assert.equal(runtime.logged, '');
    // They have already talked, or nobody answered: nobody is called a second time.
    assert.equal(await asks(runtime, { ...CALL, DialCallStatus: 'completed' }), '<Response><Hangup/></Response>');
    for (const DialCallStatus of ['no-answer', 'busy', 'failed', 'canceled', 'x']) {
      assert.equal(await asks(runtime, { ...CALL, DialCallStatus }), `<Response>${SORRY}<Hangup/></Response>`);
    }
    // The call comes from the fallback number: it would come back forever.
    for (const again of [
      { To: '+15550100009' }, { Called: '+15550100009' }, { From: '+15550100009' }, { From: CALL.To },
      { ForwardedFrom: '+15550100009' }, { ForwardedFrom: '15550100009' }, { ForwardedFrom: '1 (555) 010-0009' },
    ]) {
      runtime.logged = '';
      assert.equal(await asks(runtime, { ...CALL, ...again }), `<Response>${SORRY}<Hangup/></Response>`);
      await runtime.waitForLog(/FALLBACK_NUMBER.*\n/);
      assert.ok(!runtime.logged.includes('+'), runtime.logged);
    }
    for (const call of ['To=a&To=b&DialCallStatus=x&DialCallStatus=y', '__proto__=x&constructor=y&To=toString']) {
      assert.match(await asks(runtime, call), /^<Response><Say language="en-US">.*<Hangup\/><\/Response>$/);
    }
  });
});

test('a note after the number is ignored', async () => {
  await withRuntime({ FALLBACK_NUMBER: '+15550100009 # Ada, until June' }, async (runtime) => {
    assert.equal(await asks(runtime, CALL), `<Response>${SORRY}${DIAL}<Hangup/></Response>`);
    assert.equal(runtime.logged, '');
  });
});

test('an invalid number is not called, and is logged by name', async () => {
  for (const FALLBACK_NUMBER of ['5550100009', '+0155501000', '+15550100009,+15550100008', 'sip:a@example.com', '+１５５５']) {
    await withRuntime({ FALLBACK_NUMBER, FALLBACK_MESSAGE: 'Tea & <b>cake</b>\u0007.' }, async (runtime) => {
      assert.equal(
        await asks(runtime, CALL),
        '<Response><Say>Tea &amp; &lt;b&gt;cake&lt;/b&gt; .</Say><Hangup/></Response>'
      );
      await runtime.waitForLog(/FALLBACK_NUMBER/);
    });
  }
});

test('the sentence is in the language of the settings', async () => {
  for (const [MESSAGE_LANGUAGE, FALLBACK_MESSAGE, said] of [
    ['de # ours', '', '<Say language="de-DE">Leider'],
    ['de-AT', '…', '<Say language="de-AT">Leider'],
    ['fr-CA', '', '<Say language="fr-CA">Nous'],
    ['pl', 'Oddzwonimy.', '<Say language="pl-PL">Oddzwonimy.<'],
    ['cs-CZ', '', '<Say language="en-US">Sorry'],
    ['cs-CZ', 'Zavoláme.', '<Say language="cs-CZ">Zavoláme.<'],
  ]) {
    await withRuntime({ MESSAGE_LANGUAGE, FALLBACK_MESSAGE }, async (runtime) => {
      const answer = await asks(runtime, CALL);
      assert.ok(answer.startsWith(`<Response>${said}`), answer);
      assert.equal(runtime.logged, '');
    });
  }
});

test('a language that is none is not sent, and is logged by name', async () => {
  await withRuntime({ MESSAGE_LANGUAGE: 'German' }, async (runtime) => {
    assert.equal(await asks(runtime, CALL), `<Response>${SORRY}<Hangup/></Response>`);
    await runtime.waitForLog(/MESSAGE_LANGUAGE/);
  });
});
