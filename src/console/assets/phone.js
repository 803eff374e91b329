// A phone in the browser. It plays the telephone company's part: it speaks Media Streams to the server, plays what comes,
// echoes marks, and asks what follows when a stream ends.

import { follow } from "./live.js";

const id = (prefix) =>
  prefix + [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const FRAME_MS = 20;
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
/** Ends the transcript of the last call. */
let unfollow = () => {};

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
  const close = () => {
    for (const track of microphone.getTracks()) track.stop();
    return context.close();
  };
  try {
    return { ...(await connect(context, microphone)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The two worklets between the microphone and the loudspeaker. */
async function connect(context, microphone) {
  await context.audioWorklet.addModule("/console/assets/phone-capture.js");
  await context.audioWorklet.addModule("/console/assets/phone-playback.js");
  const capture = new AudioWorkletNode(context, "phone-capture", { numberOfOutputs: 1 });
  const playback = new AudioWorkletNode(context, "phone-playback", { numberOfInputs: 0, outputChannelCount: [1] });
  context.createMediaStreamSource(microphone).connect(capture);
  // Without an output, a node may not run. It is silent.
  capture.connect(context.destination);
  playback.connect(context.destination);
  await context.resume();
  return { capture, playback };
}

/** One Media Stream, until it ends. */
function stream(current, url) {
  return new Promise((ended) => {
    const socket = new WebSocket(url);
    const streamSid = id("MZ");
    let sequence = 0;
    let chunk = 0;
    let opened = false;
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
      opened = true;
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
      if (sequence === 0) return;
      // Counted in frames, as on a telephone line: a busy page delays frames, and loses none.
      const timestamp = String(FRAME_MS * chunk);
      send("media", { media: { track: "inbound", chunk: String(++chunk), timestamp, payload: base64(data.frame) } });
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
      ended(opened);
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
      const dialed = await ask(current, answer.number, answer.ring);
      if (dialed === null) return next(current, answer.follow, { over: "1" });
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

/** A person would be dialed: what becomes of it is your choice. Nothing, if you hang up. */
function ask(current, number, ring) {
  return new Promise((chosen) => {
    current.stop = () => {
      transfer.hidden = true;
      chosen(null);
    };
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
  const [begin, end, mute] = ["phone-call", "phone-hang-up", "phone-mute"].map(get);
  // A button that is disabled loses the focus.
  const [from, to] = is ? [begin, end] : [end, begin];
  const follows = document.activeElement === from;
  for (const control of [...keys, mute, end]) control.disabled = !is;
  begin.disabled = is;
  mute.setAttribute("aria-pressed", "false");
  if (follows) to.focus();
  if (!is) level.value = 0;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (call) return;
  const current = { press() {}, stop() {}, over: false };
  call = current;
  inCall(true);
  unfollow();
  transcript.replaceChildren();
  say("Ringing.");
  try {
    const { csrf: _, ...fields } = Object.fromEntries(new FormData(form));
    current.sound = await openSound();
    let begun = await post(phone.dataset.begin, fields);
    if (begun.then) return say(`The telephone company says: “${begun.say}”`);
    Object.assign(current, { call: begun.call, account: begun.account });
    if (begun.say) say(`The telephone company says: “${begun.say}”`);
    unfollow = follow(transcript, begun.live);
    while (begun?.stream) {
      if (!current.over && !(await stream(current, begun.stream)) && !current.over) {
        throw new Error("There is no connection for the sound: something between here and the server refuses WebSockets.");
      }
      begun = await next(current, begun.follow, current.over ? { over: "1" } : {});
      if (current.over) break;
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
  if (call && !typing && !event.repeat && !event.ctrlKey && !event.metaKey && /^[0-9*#]$/.test(event.key)) call.press(event.key);
});
