//! A small API server for what a real one does seldom: it answers as it is told, once per answer,
//! and otherwise as a cluster in which there is nothing and nothing happens.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use weft_source::{Batch, KubernetesSource};

/// Everything that is awaited comes much sooner.
const PATIENCE: Duration = Duration::from_secs(30);

pub const PODS: &str = "/api/v1/pods";
pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// One answer.
pub enum Answer {
    /// A body, whole.
    Body(String),
    /// Lines of a watch, then the end of the connection.
    Ended(Vec<Value>),
    /// Lines of a watch, which goes on in silence.
    Open(Vec<Value>),
    /// Lines of a watch as they are sent here; then the end of the connection.
    Fed(mpsc::UnboundedReceiver<Value>),
    /// This text and the end of the connection.
    Broken(String),
    /// Another status, with a Status object.
    Refused(u16),
}

/// What was asked: path and query.
pub type Asked = (String, String);

#[derive(Default)]
struct Script {
    lists: HashMap<String, VecDeque<Answer>>,
    watches: HashMap<String, VecDeque<Answer>>,
}

pub struct Api {
    script: Arc<Mutex<Script>>,
    asked: mpsc::UnboundedReceiver<Asked>,
    url: String,
    _server: JoinSet<()>,
}

impl Api {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script::default()));
        let (note, asked) = mpsc::unbounded_channel();
        let mut server = JoinSet::new();
        let told = Arc::clone(&script);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&told), note.clone()));
            }
        });
        Self {
            script,
            asked,
            url,
            _server: server,
        }
    }

    /// The next lists of the path are answered so.
    pub fn lists(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        let mut script = self.script.lock().unwrap();
        let known = script.lists.entry(path.to_owned()).or_default();
        known.extend(answers);
    }

    /// The next watches of the path are answered so.
    pub fn watches(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        let mut script = self.script.lock().unwrap();
        let known = script.watches.entry(path.to_owned()).or_default();
        known.extend(answers);
    }

    /// A source that reads from here.
    pub fn source(&self) -> KubernetesSource {
        let config = Config::new(self.url.parse().unwrap());
        let client = Client::try_from(config).unwrap();
        KubernetesSource::start(client, Duration::from_secs(290))
    }

    /// Waits until the path is asked for, with that in the query. Returns the query.
    pub async fn asked(&mut self, path: &str, query: &str) -> String {
        let found = async {
            loop {
                let (asked, with) = self.asked.recv().await.unwrap();
                if asked == path && with.contains(query) {
                    return with;
                }
            }
        };
        let what = format!("{path}?{query} was not asked for");
        timeout(PATIENCE, found).await.expect(&what)
    }
}

pub async fn next(source: &mut KubernetesSource) -> Batch {
    let batch = timeout(PATIENCE, source.next()).await;
    batch.expect("no batch came").expect("the source ended")
}

pub fn list(version: u64, token: &str, items: &[Value]) -> Answer {
    let metadata = json!({"resourceVersion": version.to_string(), "continue": token});
    let list = json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items});
    Answer::Body(list.to_string())
}

pub fn event(kind: &str, object: Value) -> Value {
    json!({"type": kind, "object": object})
}

pub fn pod(name: &str, version: u64) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": version.to_string()},
        "spec": {"serviceAccountName": "web", "containers": [{"name": "a"}]},
        "status": {"phase": "Running", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}]}
    })
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Mutex<Script>>,
    asked: mpsc::UnboundedSender<Asked>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let is_watch = query.contains("watch=true");
    let answer = {
        let mut script = script.lock().unwrap();
        let told = if is_watch {
            &mut script.watches
        } else {
            &mut script.lists
        };
        told.get_mut(path).and_then(VecDeque::pop_front)
    };
    let answer = answer.unwrap_or_else(|| match is_watch {
        true => Answer::Open(Vec::new()),
        false => list(1, "", &[]),
    });
    // Nobody may be left to hear of it.
    let _ = asked.send((path.to_owned(), query.to_owned()));
    let lines = |lines: Vec<Value>| -> String {
        let lines = lines.iter().map(|line| format!("{line}\n"));
        lines.collect()
    };
    let mut fed = None;
    let (status, body, stays) = match answer {
        Answer::Body(body) | Answer::Broken(body) => (200, body, false),
        Answer::Ended(events) => (200, lines(events), false),
        Answer::Open(events) => (200, lines(events), true),
        Answer::Fed(receiver) => {
            fed = Some(receiver);
            (200, String::new(), false)
        }
        Answer::Refused(code) => {
            let status = json!({"kind": "Status", "code": code, "message": "no", "reason": "x"});
            (code, status.to_string(), false)
        }
    };
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    );
    // A client that went away is no fault of the test's.
    let _ = stream.write_all((head + &body).as_bytes()).await;
    while let Some(line) = match &mut fed {
        Some(fed) => fed.recv().await,
        None => None,
    } {
        let _ = stream.write_all(format!("{line}\n").as_bytes()).await;
    }
    if stays {
        let _ = stream.read_u8().await;
    }
}
