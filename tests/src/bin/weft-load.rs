//! The load client: GET requests at a fixed rate, open loop, alternately on kept-alive connections
//! and on new ones, until a file appears. It tries nothing twice; the one thing that it forgives is
//! a kept-alive connection that was closed before anything was written to it. A name is looked up
//! once: who answers for it is no part of the claim. The report goes to standard output as JSON.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use weft_tests::load::{Failure, Report, STOP_FILE};

/// Longer than any answer takes, on a machine that starts ten pods beside it too.
const LIMIT: Duration = Duration::from_secs(30);
/// Kept-alive connections that lie idle at most.
const IDLE: usize = 64;

type Sender = SendRequest<Empty<Bytes>>;
type Fault = Box<dyn std::error::Error + Send + Sync>;

struct Target {
    host: String,
    address: SocketAddr,
    path: String,
    /// What an answer must contain; `None`: it is an echo's JSON.
    expect: Option<String>,
    idle: Mutex<Vec<Sender>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Fault> {
    let Arguments { url, rate, expect } = arguments()?;
    let rest = url
        .strip_prefix("http://")
        .ok_or("the URL must begin with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = if host.contains(':') {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let address = tokio::net::lookup_host(&host).await?.next();
    let target = Arc::new(Target {
        address: address.ok_or("the name has no address")?,
        host,
        path: format!("/{path}"),
        expect,
        idle: Mutex::default(),
    });
    let _ = std::fs::remove_file(STOP_FILE);
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut look = interval(Duration::from_millis(100));
    let (mut requests, mut report) = (JoinSet::new(), Report::default());
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let kept_alive = report.sent % 2 == 0;
                report.sent += 1;
                requests.spawn(request(target.clone(), kept_alive));
            }
            Some(done) = requests.join_next() => count(&mut report, done?),
            _ = look.tick() => if std::fs::exists(STOP_FILE)? { break },
        }
    }
    while let Some(done) = requests.join_next().await {
        count(&mut report, done?);
    }
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

struct Arguments {
    url: String,
    rate: u32,
    expect: Option<String>,
}

fn arguments() -> Result<Arguments, Fault> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let at = words.iter().position(|word| word == flag)?;
        words.get(at + 1).cloned()
    };
    let url = value("--url").ok_or("--url is missing")?;
    let rate = value("--rate").ok_or("--rate is missing")?.parse()?;
    Ok(Arguments {
        url,
        rate,
        expect: value("--expect"),
    })
}

fn count(report: &mut Report, done: Result<serde_json::Value, Failure>) {
    match done {
        Ok(body) => {
            report.good += 1;
            let text = |name: &str| body[name].as_str().unwrap_or("?").to_owned();
            *report.by_pod.entry(text("pod")).or_default() += 1;
            *report.by_version.entry(text("version")).or_default() += 1;
        }
        Err(failure) => report.failures.push(failure),
    }
}

async fn request(target: Arc<Target>, kept_alive: bool) -> Result<serde_json::Value, Failure> {
    let at = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let result = match timeout(LIMIT, attempt(&target, kept_alive)).await {
        Ok(Ok(body)) => return Ok(body),
        Ok(Err(fault)) => chain(&*fault),
        Err(_) => format!("no answer within {LIMIT:?}"),
    };
    Err(Failure {
        at,
        kept_alive,
        what: result,
    })
}

fn chain(fault: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(fault), |fault| fault.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

async fn attempt(target: &Target, kept_alive: bool) -> Result<serde_json::Value, Fault> {
    let mut sender = if kept_alive { idle(target) } else { None };
    loop {
        let mut open = match sender.take() {
            Some(open) => open,
            None => connect(target).await?,
        };
        let mut request = hyper::Request::get(&target.path).header("host", &target.host);
        if !kept_alive {
            request = request.header("connection", "close");
        }
        let response = match open.try_send_request(request.body(Empty::new())?).await {
            Ok(response) => response,
            // Not a byte of it was written: the connection had been closed while it lay idle.
            Err(mut error) => match error.take_message() {
                Some(_) if kept_alive => continue,
                _ => return Err(error.into_error().into()),
            },
        };
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        if head.status != 200 {
            let weft = head
                .headers
                .iter()
                .filter(|(name, _)| name.as_str().starts_with("weft"));
            return Err(format!("{} {:?}", head.status, weft.collect::<Vec<_>>()).into());
        }
        if kept_alive && open.ready().await.is_ok() {
            let mut idle = target.idle.lock().unwrap_or_else(PoisonError::into_inner);
            if idle.len() < IDLE {
                idle.push(open);
            }
        }
        return match &target.expect {
            None => Ok(serde_json::from_slice(&body)?),
            Some(text) if String::from_utf8_lossy(&body).contains(text.as_str()) => {
                Ok(serde_json::Value::Null)
            }
            Some(text) => Err(format!("no {text:?} in {} bytes", body.len()).into()),
        };
    }
}

fn idle(target: &Target) -> Option<Sender> {
    let mut idle = target.idle.lock().unwrap_or_else(PoisonError::into_inner);
    while let Some(sender) = idle.pop() {
        if sender.is_ready() {
            return Some(sender);
        }
    }
    None
}

async fn connect(target: &Target) -> Result<Sender, Fault> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // Ends with its sender.
    tokio::spawn(connection);
    Ok(sender)
}
