import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'node:test';

// The reader of `.env` that Twilio's own tools use.
const require = createRequire(import.meta.url);
const dotenv = createRequire(require.resolve('twilio-run'))('dotenv');
const SETTINGS = fileURLToPath(new URL('../settings.js', import.meta.url));

test('a file is read as the deploying tools read it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'settings-'));
  const file = join(folder, '.env');
  const lines = [
    'A=1', ' B = two words ', "C='x'", 'D="x\\ny"', "E='x\\ny'", 'F="x" # note', 'G=x # note', 'H="', 'I=', "J='Tis",
    'export K=1', 'L="open', 'closed"', 'M=1\r', 'N="1"\r', '# O=1', 'P.q-r=1', 'A=2', 'S="a\'', 'T==', '=U', '',
  ];
  writeFileSync(file, lines.join('\n'));
  const print = `process.argv[2] = ${JSON.stringify(file)};
    const { settings } = require(${JSON.stringify(SETTINGS)});
    console.log(JSON.stringify(settings));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', print], { encoding: 'utf8' });
  rmSync(folder, { recursive: true });
  // A missing ALLOWED_NUMBERS counts as empty.
  assert.deepEqual(JSON.parse(stdout), { ...dotenv.parse(lines.join('\n')), ALLOWED_NUMBERS: '' }, stderr);
});
