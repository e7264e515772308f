"use strict";

const POLL_MS = 2000;
const STATUSES = {
  exact: "exact hit",
  semantic: "hit by meaning",
  joined: "joined in flight",
  miss: "generated",
  bypass: "generated, caches passed by",
  error: "error",
};
const REASONS = {
  complexity: "its complexity",
  low_confidence: "the score was not sure, so one tier up",
  task: "it is a task with a tier of its own",
  category: "its category says so",
  min_tier: "the request asks for no less",
  max_tier: "the request asks for no more",
};

const at = (id) => document.getElementById(id);
const decimals = (usd) => (usd >= 0.995 ? 2 : Math.min(9, 2 - Math.floor(Math.log10(usd)))); // three digits that count
const dollars = (usd) => (usd > 0 ? `$${usd.toFixed(decimals(usd))}` : "$0");
const duration = (ms) => (ms == null ? "–" : ms < 999.5 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`);
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const percent = (share) => `${Math.round(100 * share)}\u00a0%`;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function call(path, options = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  return fetch(path, { ...options, headers });
}

async function problem(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `status ${response.status}`;
  }
}

// What goes on

function bars(id, counts, name) {
  const most = Math.max(1, ...Object.values(counts));
  const rows = Object.entries(counts).flatMap(([what, count]) => {
    const bar = element("div", undefined, `bar ${what}`);
    bar.style.width = `${(100 * count) / most}%`;
    return [element("span", name(what)), bar, element("span", count.toLocaleString(), "number")];
  });
  at(id).replaceChildren(...(rows.length ? rows : [element("p", "nothing yet")]));
}

function show(live) {
  const span = live.window_s < 90 ? `${Math.round(live.window_s)} s` : `${Math.round(live.window_s / 60)} min`;
  at("state").textContent = `${live.whose}, the last ${span}`;
  at("rate").textContent = live.replies.toLocaleString();
  at("rate-note").textContent = `${live.inflight} calls in flight here, ${live.errors} errors`;
  at("hits").textContent = live.answers ? percent(live.given_again / live.answers) : "–";
  at("hits-note").textContent = `${live.given_again} of ${live.answers} answers cost nothing`;
  at("spent").textContent = dollars(live.cost);
  const saved = live.baseline_cost ? `, ${percent(1 - live.cost / live.baseline_cost)} saved` : "";
  const limits = (live.key || []).map((one) => `; of this key's ${dollars(one.limit_usd)} a ${one.span} ${dollars(one.spent_usd)}`);
  at("spent-note").textContent = `${dollars(live.baseline_cost)} by the largest tier${saved}${limits.join("")}`;
  at("latency").textContent = duration(live.p50_ms);
  at("latency-note").textContent = `median; P95 ${duration(live.p95_ms)}`;
  bars("by-status", live.by_status, (status) => STATUSES[status]);
  bars("by-tier", live.by_tier, (tier) => tier);
  at("latest").replaceChildren(
    ...live.latest.map((one) => {
      const row = element("tr");
      const came = element("td");
      came.append(element("span", undefined, `dot ${one.status}`), one.error || STATUSES[one.status]);
      row.append(
        element("td", one.request_id),
        element("td", one.tenant),
        element("td", one.category),
        came,
        element("td", one.tier || "–"),
        element("td", duration(one.total_ms)),
        element("td", dollars(one.cost)),
      );
      return row;
    }),
  );
}

async function poll() {
  try {
    const response = await call("/forebay/live");
    at("key-form").hidden = response.status !== 401 && !sessionStorage.getItem("key");
    if (response.ok) show(await response.json());
    else at("state").textContent = response.status === 401 ? "give an API key" : await problem(response);
  } catch {
    at("state").textContent = "the gateway does not answer";
  }
  setTimeout(poll, document.hidden ? 5 * POLL_MS : POLL_MS);
}

async function listModels() {
  const response = await call("/v1/models");
  if (!response.ok) return;
  const names = (await response.json()).data.map((model) => element("option", model.id));
  at("model").replaceChildren(...names);
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", at("key").value.trim());
  at("state").textContent = "connecting";
  listModels();
});

// Trying a prompt

function why(told) {
  const lines = [];
  const line = (...parts) => {
    const paragraph = element("p");
    paragraph.append(...parts);
    lines.push(paragraph);
  };
  const of = told.matched_request_id ? ` of ${told.matched_request_id}` : "";
  const near = told.similarity == null ? "" : ` Cosine of the nearest known question: ${told.similarity.toFixed(3)}.`;
  const came = {
    exact: `An equal request was answered before: this is the answer${of}.`,
    semantic: `A question of the same meaning was answered before: this is the answer${of}.${near}`,
    joined: `An equal request was being answered: both share one generation, that${of}.`,
    miss: `Nothing known could be given again.${near}`,
    bypass: "The caches were passed by: the request, its category or what it asks about does not allow reuse.",
  };
  line(element("strong", `${capital(STATUSES[told.cache_status])}. `), came[told.cache_status]);
  if (told.route) {
    const { tier, complexity, confidence, reason, features } = told.route;
    const scored = `Complexity ${complexity.toFixed(2)} of 1, confidence ${confidence.toFixed(2)}: tier ${tier}, for ${REASONS[reason] || reason}.`;
    const read = Object.entries(features).sort((one, other) => other[1] - one[1]);
    const shown = read.filter(([, value]) => value > 0).slice(0, 6).map(([name, value]) => `${name} ${value.toFixed(2)}`);
    line(element("strong", "Routed. "), scored, shown.length ? ` Read of it: ${shown.join(", ")}.` : "");
  }
  for (const hop of told.path)
    line(element("strong", "Went on. "), `${hop.tier}'s answer did not go out (${hop.reason}), for ${dollars(hop.cost)}.`);
  line(element("strong", `${told.model_id || "no model"} in ${told.tier || "no tier"}. `),
    `${dollars(told.cost)}; the largest tier would have cost ${dollars(told.baseline_cost)}.`,
    told.review ? " A person should look at it: the model was not sure." : "");
  const stages = ["queue", "embedding", "lookup", "generation"].map((stage) => `${stage} ${duration(told.latency[`${stage}_ms`])}`);
  line(element("strong", `${duration(told.latency.total_ms)}. `), `${stages.join(", ")}.`);
  line(`Request ${told.request_id}`);
  return lines;
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const whole = (held + value).split("\n\n");
    held = whole.pop();
    for (const event of whole) if (event !== "data: [DONE]") yield JSON.parse(event.slice("data: ".length));
  }
}

async function ask(signal) {
  const category = at("category").value.trim();
  const body = {
    model: at("model").value,
    messages: [{ role: "user", content: at("prompt").value }],
    stream: true,
    stream_options: { include_usage: true },
    forebay: { cache: { policy: at("policy").value }, ...(category ? { category } : {}) },
  };
  const response = await call("/v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!response.ok) throw new Error(await problem(response));
  for await (const event of events(response.body)) {
    if (event.error) throw new Error(event.error.message);
    at("text").textContent += event.choices[0]?.delta.content || "";
    if (event.usage) at("why").replaceChildren(...why(event.usage.forebay));
  }
}

at("try").addEventListener("submit", async (event) => {
  event.preventDefault();
  const leaving = new AbortController();
  at("stop").onclick = () => leaving.abort();
  at("ask").disabled = true;
  at("stop").hidden = at("answer").hidden = false;
  at("text").textContent = "";
  at("why").replaceChildren(element("p", "asked; waiting for the answer"));
  try {
    await ask(leaving.signal);
  } catch (error) {
    const stopped = error.name === "AbortError";
    at("why").replaceChildren(element("p", stopped ? "stopped: the request is taken back" : error.message, stopped ? "" : "wrong"));
  }
  at("ask").disabled = false;
  at("stop").hidden = true;
});

listModels();
poll();
