// A phone in the browser. It plays the telephone company's part: it speaks Media Streams to the server, plays what comes,
// echoes marks, and asks what follows when a stream ends.

import { follow } from "./live.js";

const id = (prefix) =>
  prefix + [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const get = (name) => document.querySelector(`#${name}`);

const phone = get("phone");
const form = get("phone-setup");
const state = get("phone-state");
const level = get("phone-level");
const transfer = get("phone-transfer");
const transcript = get("phone-transcript");
const keys = [...document.querySelectorAll("#keypad .key")];

/** The call in progress. */
let call = null;

function say(text) {
  state.textContent = text;
}

function base64(bytes) {
  return btoa(String.fromCharCode(...bytes));
}

function bytes(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

async function post(url, fields) {
  const body = new URLSearchParams({ csrf: form.elements.csrf.value, ...fields });
  const answer = await fetch(url, { method: "POST", body, headers: { Accept: "application/json" } });
  const type = answer.headers.get("Content-Type") ?? "";
  if (!type.includes("json")) throw new Error(answer.ok ? "You are logged out: reload the page." : `The server answers ${answer.status}.`);
  const read = await answer.json();
  if (read.error) throw new Error(read.message);
  return read;
}

/** Microphone and loudspeaker. */
async function openSound() {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Error("A browser gives the microphone only to a page with HTTPS, or on localhost.");
  }
  const headset = get("headset").checked;
  let microphone;
  try {
    microphone = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: !headset, noiseSuppression: false, autoGainControl: !headset, channelCount: 1 },
    });
  } catch (error) {
    const why = {
      NotAllowedError: "The browser may not use the microphone. Allow it in the address bar, and call again.",
      NotFoundError: "There is no microphone.",
      NotReadableError: "Another program uses the microphone.",
    };
    throw new Error(why[error.name] ?? `The microphone cannot be used: ${error.name}.`);
  }
  const context = new AudioContext({ latencyHint: "interactive" });
  await context.audioWorklet.addModule("/console/assets/phone-capture.js");
  await context.audioWorklet.addModule("/console/assets/phone-playback.js");
  const capture = new AudioWorkletNode(context, "phone-capture", { numberOfOutputs: 1 });
  const playback = new AudioWorkletNode(context, "phone-playback", { numberOfInputs: 0, outputChannelCount: [1] });
  context.createMediaStreamSource(microphone).connect(capture);
  // Without an output, a node may not run. It is silent.
  capture.connect(context.destination);
  playback.connect(context.destination);
  await context.resume();
  return {
    capture,
    playback,
    close() {
      for (const track of microphone.getTracks()) track.stop();
      context.close();
    },
  };
}

/** One Media Stream, until it ends. */
function stream(current, url) {
  return new Promise((ended) => {
    const socket = new WebSocket(url);
    const streamSid = id("MZ");
    let sequence = 0;
    let chunk = 0;
    let opened = 0;
    const send = (event, fields) => {
      if (socket.readyState !== WebSocket.OPEN) return;
      const numbered = event === "connected" ? {} : { sequenceNumber: String(++sequence), streamSid };
      socket.send(JSON.stringify({ event, ...numbered, ...fields }));
    };
    current.press = (digit) => send("dtmf", { dtmf: { track: "inbound_track", digit } });
    current.stop = () => {
      send("stop", { stop: { accountSid: current.account, callSid: current.call } });
      socket.close(1000);
    };
    socket.onopen = () => {
      opened = performance.now();
      send("connected", { protocol: "Call", version: "1.0.0" });
      send("start", {
        start: {
          streamSid,
          accountSid: current.account,
          callSid: current.call,
          tracks: ["inbound"],
          mediaFormat: { encoding: "audio/x-mulaw", sampleRate: 8000, channels: 1 },
          customParameters: {},
        },
      });
      say("Connected.");
    };
    current.sound.capture.port.onmessage = ({ data }) => {
      level.value = Math.min(1, data.level * 3);
      const timestamp = String(Math.round(performance.now() - opened));
      if (sequence > 0) {
        send("media", { media: { track: "inbound", chunk: String(++chunk), timestamp, payload: base64(data.frame) } });
      }
    };
    current.sound.playback.port.onmessage = ({ data }) => {
      phone.dataset.heardMs = Math.round(data.played / 8);
      if (data.mark !== undefined) send("mark", { mark: { name: data.mark } });
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      const { port } = current.sound.playback;
      if (message.event === "media") {
        const media = bytes(message.media.payload);
        port.postMessage({ media }, [media.buffer]);
      } else if (message.event === "mark") port.postMessage({ mark: message.mark.name });
      else if (message.event === "clear") port.postMessage({});
    };
    socket.onclose = () => {
      current.sound.playback.port.postMessage({});
      current.sound.capture.port.onmessage = null;
      ended(opened > 0);
    };
  });
}

/** What follows a stream. Returns the next stream, or nothing. */
async function next(current, follows, fields) {
  const answer = await post(follows, fields);
  switch (answer.then) {
    case "stream_again":
      say("The call comes back.");
      return answer;
    case "press":
      say(`The telephone company presses ${answer.digits}.`);
      return answer;
    case "dial": {
      const dialed = await ask(answer.number, answer.ring);
      if (dialed === "answered") say(`The call would go on with ${answer.number}.`);
      return next(current, answer.follow, { dialed });
    }
    case "sorry":
      say(`The telephone company says: “${answer.say}”${answer.number ? ` and dials ${answer.number}.` : ""}`);
      return null;
    default:
      if (!state.textContent.startsWith("The call would")) say("The call is over.");
      return null;
  }
}

/** A person would be dialed: what becomes of it is your choice. */
function ask(number, ring) {
  return new Promise((chosen) => {
    transfer.replaceChildren();
    const text = document.createElement("p");
    text.textContent = `The telephone company now dials ${number}, and lets it ring for ${ring} s. What happens there?`;
    const buttons = document.createElement("p");
    buttons.className = "actions";
    const outcomes = [["answered", "They answer"], ["no_answer", "Nobody answers"], ["busy", "It is busy"]];
    for (const [outcome, label] of outcomes) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "button button-quiet";
      button.textContent = label;
      button.dataset.outcome = outcome;
      button.onclick = () => {
        transfer.hidden = true;
        chosen(outcome);
      };
      buttons.append(button);
    }
    transfer.append(text, buttons);
    transfer.hidden = false;
    say("The call is being transferred.");
    buttons.firstChild.focus();
  });
}

function inCall(is) {
  for (const control of [...keys, get("phone-mute"), get("phone-hang-up")]) control.disabled = !is;
  get("phone-call").disabled = is;
  if (!is) level.value = 0;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (call) return;
  const current = { press() {}, stop() {}, over: false };
  call = current;
  inCall(true);
  transcript.replaceChildren();
  say("Ringing.");
  let unfollow = () => {};
  try {
    const { csrf: _, ...fields } = Object.fromEntries(new FormData(form));
    current.sound = await openSound();
    let begun = await post(phone.dataset.begin, fields);
    if (begun.then) return say(`The telephone company says: “${begun.say}”`);
    Object.assign(current, { call: begun.call, account: begun.account });
    if (begun.say) say(`The telephone company says: “${begun.say}”`);
    unfollow = follow(transcript, begun.live);
    while (begun?.stream) {
      await stream(current, begun.stream);
      begun = await next(current, begun.follow, current.over ? { over: "1" } : {});
    }
    if (current.over) say("You hung up.");
  } catch (error) {
    say(error.message);
  } finally {
    current.sound?.close();
    // What was said last may still come.
    setTimeout(unfollow, 3_000);
    transfer.hidden = true;
    call = null;
    inCall(false);
  }
});

get("phone-hang-up").addEventListener("click", () => {
  if (!call) return;
  call.over = true;
  call.stop();
});

get("phone-mute").addEventListener("click", ({ currentTarget }) => {
  const muted = currentTarget.getAttribute("aria-pressed") !== "true";
  currentTarget.setAttribute("aria-pressed", String(muted));
  call?.sound?.capture.port.postMessage({ muted });
});

for (const key of keys) key.addEventListener("click", () => call?.press(key.dataset.key));
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (call && !typing && !event.ctrlKey && !event.metaKey && /^[0-9*#]$/.test(event.key)) call.press(event.key);
});
