//! The operator verbs: what the admin address says, in the terminal.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::status::BackendStatus;

/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The status and the body of a `GET`.
async fn get(admin: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let asked = async {
        let mut stream = TcpStream::connect(admin).await?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: {admin}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a malformed answer");
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(malformed)?;
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
        Ok((status, body.to_owned()))
    };
    tokio::time::timeout(TIMEOUT, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Prints the backends. Says whether that worked.
pub async fn backends(admin: SocketAddr, json: bool) -> bool {
    let body = match get(admin, "/backends").await {
        Ok((200, body)) => body,
        Ok((status, _)) => return failed(admin, &format!("status {status}")),
        Err(error) => return failed(admin, &error.to_string()),
    };
    if json {
        println!("{}", body.trim_end());
        return true;
    }
    match serde_json::from_str::<Vec<BackendStatus>>(&body) {
        Ok(backends) => {
            print!("{}", table(&backends));
            true
        }
        Err(error) => failed(admin, &error.to_string()),
    }
}

/// Prints whether the balancer is ready (or alive), and says so.
pub async fn health(admin: SocketAddr, live: bool, json: bool) -> bool {
    let path = if live { "/livez" } else { "/readyz" };
    let (ok, detail) = match get(admin, path).await {
        Ok((200, _)) => (true, String::new()),
        Ok((status, body)) => {
            let problem: Option<serde_json::Value> = serde_json::from_str(&body).ok();
            let detail = problem.and_then(|problem| Some(problem.get("detail")?.as_str()?.to_owned()));
            (false, detail.unwrap_or_else(|| format!("status {status}")))
        }
        Err(error) => (false, format!("{admin}: {error}")),
    };
    if json {
        println!("{}", serde_json::json!({ "ok": ok, "detail": detail }));
    } else if ok {
        println!("{}", if live { "alive" } else { "ready" });
    } else {
        println!("not {}: {detail}", if live { "alive" } else { "ready" });
    }
    ok
}

fn failed(admin: SocketAddr, reason: &str) -> bool {
    eprintln!("skep-balancer: {admin}: {reason}");
    false
}

fn table(backends: &[BackendStatus]) -> String {
    let mut out = format!(
        "{:<21} {:<21} {:<9} {:<9} {:<8} {:<8} {:>9} {:>8} {:>10} {:>9} {:>6}\n",
        "BACKEND",
        "ADDRESS",
        "STATE",
        "ROLE",
        "PROBE",
        "STATUS",
        "IN-FLIGHT",
        "REQ/S",
        "LATENCY-MS",
        "FAILURES",
        "5XX"
    );
    for it in backends {
        let status = match (it.serving, it.ejected) {
            (true, false) => "serving",
            (true, true) => "ejected",
            (false, _) => "out",
        };
        out += &format!(
            "{:<21} {:<21} {:<9} {:<9} {:<8} {:<8} {:>9} {:>8.1} {:>10.2} {:>9} {:>6}\n",
            it.id,
            it.address,
            it.state,
            it.role,
            it.probe,
            status,
            it.outstanding,
            it.requests_per_s,
            it.latency_ms,
            it.failures,
            it.responses_5xx
        );
    }
    out
}
