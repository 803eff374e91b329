import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import test from 'node:test';

// Asks Twilio's own tools what they would upload.
const require = createRequire(import.meta.url);
const toolkit = createRequire(require.resolve('twilio-run'));
const { fsHelpers } = toolkit('@twilio-labs/serverless-api');
const { checkForValidRuntimeHandlerVersion } = require('twilio-run/dist/checks/check-runtime-handler');
const PROJECT = fileURLToPath(new URL('..', import.meta.url));

test('both Functions are deployed, and only Twilio may call them', async () => {
  const { functions, assets } = await fsHelpers.getListOfFunctionsAndAssets(PROJECT);
  const deployed = functions.map(({ path, access, content }) => ({ path, access, content }));
  deployed.sort((a, b) => a.path.localeCompare(b.path));
  assert.deepEqual(
    deployed,
    ['allowlist-function', 'fallback-function'].map((name) => ({
      path: `/${name}`,
      access: 'protected',
      content: readFileSync(`${PROJECT}/${name}.js`, 'utf8'),
    }))
  );
  assert.deepEqual(assets, []);
  assert.ok(checkForValidRuntimeHandlerVersion(require('../package.json'), true), 'the runtime version is exact');
});
