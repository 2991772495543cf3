//! Headless Chromium, driven by the DevTools protocol over its WebSocket.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::wait::until;

const PROGRAM: &str = "/usr/bin/chromium";
const PATIENCE: Duration = Duration::from_secs(60);

type Sink = SplitSink<WebSocketStream<MaybeTlsStream<TcpStream>>, Message>;

/// A running browser; it ends with the value.
pub struct Browser {
    child: Child,
    _profile: tempfile::TempDir,
    protocol: Arc<Protocol>,
}

struct Protocol {
    sink: tokio::sync::Mutex<Sink>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    /// Errors of scripts and of what the pages loaded.
    complaints: Mutex<Vec<String>>,
}

/// A window.
pub struct Window {
    protocol: Arc<Protocol>,
    session: String,
}

/// Whether there is a browser on this machine.
pub fn is_there() -> bool {
    Path::new(PROGRAM).exists()
}

impl Browser {
    pub async fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder for the browser's profile");
        let mut child = Command::new(PROGRAM)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--hide-scrollbars", "--remote-debugging-port=0"])
            // No window comes after another, and none needs more shared memory than a container has.
            .args(["--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows"])
            .args(["--disable-renderer-backgrounding", "--disable-dev-shm-usage"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let mut lines = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
        let url = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("DevTools listening on ").map(str::to_owned))
            .expect("the browser says where it listens");
        // Whatever else it says must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let (socket, _) = connect_async(url).await.expect("the browser takes a connection");
        let (sink, mut stream) = socket.split();
        let protocol = Arc::new(Protocol {
            sink: tokio::sync::Mutex::new(sink),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            complaints: Mutex::default(),
        });
        let reading = protocol.clone();
        tokio::spawn(async move {
            let ended = loop {
                match stream.next().await {
                    Some(Ok(frame)) => {
                        if let Ok(text) = frame.to_text()
                            && let Ok(said) = serde_json::from_str(text)
                        {
                            reading.heard(said);
                        }
                    }
                    ended => break ended,
                }
            };
            reading.complain(format!("the browser says no more: {ended:?}"));
            // Nobody waits for what will not come.
            reading.waiting.lock().expect("no holder panics").clear();
        });
        Self { child, _profile: profile, protocol }
    }

    /// A window of this size that shows the address.
    pub async fn open(&self, url: &str, width: u32, height: u32) -> Window {
        // The tab behind another is hidden, and its process comes last.
        let window = json!({ "url": "about:blank", "newWindow": true });
        let made = self.protocol.call("", "Target.createTarget", window).await;
        let wanted = json!({ "targetId": made["targetId"], "flatten": true });
        let attached = self.protocol.call("", "Target.attachToTarget", wanted).await;
        let session = attached["sessionId"].as_str().expect("a session").to_owned();
        let window = Window { protocol: self.protocol.clone(), session };
        for domain in ["Runtime.enable", "Log.enable", "Page.enable", "Inspector.enable"] {
            window.call(domain, json!({})).await;
        }
        // Else the window behind another counts as hidden.
        window.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true })).await;
        window.resize(width, height).await;
        window.call("Page.navigate", json!({ "url": url })).await;
        window
    }

    /// What scripts and loads complained of so far; it is forgotten then.
    pub fn take_complaints(&self) -> Vec<String> {
        self.protocol.complaints()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Protocol {
    fn heard(&self, said: Value) {
        if let Some(id) = said["id"].as_u64() {
            let waiting = self.waiting.lock().expect("no holder panics").remove(&id);
            if let Some(waiting) = waiting {
                // Who asked may have given up.
                let _ = waiting.send(said);
            }
            return;
        }
        let complaint = match said["method"].as_str() {
            Some("Runtime.exceptionThrown") => Some(said["params"]["exceptionDetails"].to_string()),
            Some("Runtime.consoleAPICalled") if said["params"]["type"] == "error" => {
                Some(said["params"]["args"].to_string())
            }
            Some(method @ ("Inspector.targetCrashed" | "Target.targetCrashed" | "Inspector.detached")) => {
                Some(format!("{method}: {}", said["params"]))
            }
            Some("Log.entryAdded") if said["params"]["entry"]["level"] == "error" => {
                Some(said["params"]["entry"].to_string())
            }
            _ => None,
        };
        complaint.into_iter().for_each(|complaint| self.complain(complaint));
    }

    fn complain(&self, complaint: String) {
        self.complaints.lock().expect("no holder panics").push(complaint);
    }

    fn complaints(&self) -> Vec<String> {
        std::mem::take(&mut *self.complaints.lock().expect("no holder panics"))
    }

    async fn call(&self, session: &str, method: &str, params: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut request = json!({ "id": id, "method": method, "params": params });
        if !session.is_empty() {
            request["sessionId"] = session.into();
        }
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().expect("no holder panics").insert(id, answer);
        self.sink.lock().await.send(Message::text(request.to_string())).await.expect("the browser listens");
        let answer = tokio::time::timeout(PATIENCE, answered).await;
        let Ok(Ok(mut answer)) = answer else {
            panic!("the browser does not answer: {request}; it said {:?}", self.complaints())
        };
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }
}

impl Window {
    async fn call(&self, method: &str, params: Value) -> Value {
        self.protocol.call(&self.session, method, params).await
    }

    /// What an expression comes to; promises are awaited.
    pub async fn value(&self, expression: &str) -> Value {
        let wanted = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut answer = self.call("Runtime.evaluate", wanted).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].take()
    }

    pub async fn wait(&self, what: &str, expression: &str) {
        until(what, PATIENCE, async || (self.value(expression).await == true).then_some(())).await;
    }

    /// Types into whatever has the focus.
    pub async fn type_text(&self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key; `modifiers` as the protocol numbers them: 2 is Ctrl.
    pub async fn press(&self, key: &str, code: u32, modifiers: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": modifiers
            });
            self.call("Input.dispatchKeyEvent", event).await;
        }
    }

    pub async fn resize(&self, width: u32, height: u32) {
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// `light` or `dark`.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// How often the page has been laid out so far.
    pub async fn layouts(&self) -> f64 {
        self.call("Performance.enable", json!({})).await;
        let metrics = self.call("Performance.getMetrics", json!({})).await;
        let all = metrics["metrics"].as_array().expect("metrics");
        let found = all.iter().find(|metric| metric["name"] == "LayoutCount").expect("layouts are counted");
        found["value"].as_f64().expect("a number")
    }

    pub async fn screenshot(&self, path: &Path) {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        let bytes = decode_base64(shot["data"].as_str().expect("a picture"));
        std::fs::write(path, bytes).expect("the picture can be written");
    }
}

fn decode_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let text = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    for chunk in text.chunks(4) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 6 | u32::from(value(*byte)));
        let bits = bits << (6 * (4 - chunk.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    bytes
}
