//! A balancer of one core, backends that do as they are told, and clients that write raw bytes.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use skep_balancer::core::published::Published;
use skep_balancer::core::routes::Routes;
use skep_balancer::core::settings::Settings;
use skep_balancer::core::shared::Shared;
use skep_balancer::core::stats::CoreStats;
use skep_balancer::listen::cores::{CoreConfig, Listening, Phase, start};
use skep_balancer::listen::tls::Certificates;
use skep_balancer::pools::Pool;
use skep_balancer::pools::backends::{Backend, BackendSet, Known};
use skep_base::listen::bind;
use skep_gateway::{Document, Table};
use tokio::sync::watch;

/// Longer than anything that a test waits for takes.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Balancer {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub shared: Arc<Shared>,
    pub stats: Arc<CoreStats>,
    pub phase: watch::Sender<Phase>,
    core: Option<JoinHandle<std::io::Result<()>>>,
}

impl Balancer {
    pub fn start(backends: &[SocketAddr]) -> Self {
        Self::with(backends, Settings::default())
    }

    pub fn with(backends: &[SocketAddr], settings: Settings) -> Self {
        Self::of(backends, Shared { settings: Arc::new(settings).into(), ..Shared::default() })
    }

    pub fn of(backends: &[SocketAddr], shared: Shared) -> Self {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let [http, https] =
            [loopback, loopback].map(|any| Listening { socket: bind(any).unwrap(), stays: false });
        Self::at(http, https, backends, shared)
    }

    pub fn at(http: Listening, https: Listening, backends: &[SocketAddr], shared: Shared) -> Self {
        let shared = Arc::new(shared);
        let stats = Arc::new(CoreStats::default());
        let (phase, receiver) = watch::channel(Phase::Serving);
        let certificates = Arc::new(Certificates::new(vec![], None).unwrap());
        let [http_address, https_address] = [&http, &https].map(|it| it.socket.local_addr().unwrap());
        let config = CoreConfig {
            shared: shared.clone(),
            stats: stats.clone(),
            log: None,
            http,
            https: Some((https, certificates)),
            phase: receiver,
        };
        let core = Some(start(0, config).unwrap());
        let balancer = Self { http: http_address, https: https_address, shared, stats, phase, core };
        balancer.set(backends, None);
        balancer
    }

    pub fn set(&self, backends: &[SocketAddr], leader: Option<usize>) -> Vec<Arc<Backend>> {
        let known = backends.iter().enumerate().map(|(at, address)| {
            let backend = Arc::new(Backend::new(*address, None));
            Known { is_leader: leader == Some(at), ..Known::well(backend) }
        });
        let set = BackendSet::of(known.collect(), []);
        let serving = set.serving.clone();
        self.shared.pools.skep().store(set);
        serving
    }

    /// Obeys a gateway's document, whose services are at these places, each with one that answered.
    pub fn route(&self, document: &str, services: &[(&str, &[SocketAddr])]) {
        self.route_with(document, services, BTreeMap::new());
    }

    /// The same, where issuers publish that.
    pub fn route_with(
        &self,
        document: &str,
        services: &[(&str, &[SocketAddr])],
        published: BTreeMap<String, Arc<Published>>,
    ) {
        let table = Document::read(document).and_then(Table::compile).unwrap();
        let before = self.shared.routes.load_full();
        let pool = |name: &str| {
            let known = before.iter().flat_map(|it| &it.pools).find(|it| it.name == name).cloned();
            let pool = known.unwrap_or_else(|| Pool::new(name, false, None));
            if let Some((_, addresses)) = services.iter().find(|(it, _)| *it == name) {
                let known = addresses.iter().map(|it| Known::well(Arc::new(Backend::new(*it, None))));
                pool.store(BackendSet::of(known.collect(), []));
            }
            pool
        };
        let skep = self.shared.pools.skep().clone();
        let others = table.services.iter().skip(1).map(|(name, _)| pool(name));
        let pools = [skep].into_iter().chain(others).collect();
        let counts = table.routes.iter().map(|_| Arc::default()).collect();
        self.shared.routes.store(Some(Arc::new(Routes::new(table, pools, counts, published))));
    }

    pub fn client(&self) -> Client {
        Client::connect(self.http)
    }

    /// One request on a connection of its own: all that comes back.
    pub fn ask(&self, request: &str) -> String {
        let mut client = self.client();
        client.send(request);
        client.rest()
    }

    /// Waits for the core's end.
    pub fn join(mut self) {
        self.core.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Stopped);
        if let Some(core) = self.core.take() {
            let _ = core.join();
        }
    }
}

pub struct Client(pub TcpStream);

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.write_all(text.as_ref()).unwrap();
    }

    /// Reads until the other side closes.
    pub fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// As [`Self::rest`], where the other side may not have read all that was sent.
    pub fn rest_or_reset(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.0.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads up to and with `end`.
    pub fn until(&mut self, end: &str) -> String {
        read_until(&mut self.0, end.as_bytes()).expect("the connection ended too early")
    }

    /// Reads a head and a body by its Content-Length.
    pub fn answer(&mut self) -> (String, String) {
        let head = self.until("\r\n\r\n");
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned))
            .map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        (head, String::from_utf8_lossy(&body).into_owned())
    }
}

pub fn read_until(stream: &mut TcpStream, end: &[u8]) -> Option<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(end) {
        match stream.read(&mut byte) {
            Ok(1) => bytes.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// A backend that runs `script` on each connection and remembers the heads that it read.
pub struct Scripted {
    pub address: SocketAddr,
    pub heads: Arc<Mutex<Vec<String>>>,
    pub connections: Arc<AtomicUsize>,
}

/// One connection, as a backend's script has it.
pub struct Served {
    pub stream: TcpStream,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Served {
    /// The next request's head, where there is one.
    pub fn head(&mut self) -> Option<String> {
        let head = read_until(&mut self.stream, b"\r\n\r\n")?;
        self.heads.lock().unwrap().push(head.clone());
        Some(head)
    }

    pub fn body(&mut self, length: usize) -> String {
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        String::from_utf8_lossy(&body).into_owned()
    }

    pub fn until(&mut self, end: &str) -> String {
        read_until(&mut self.stream, end.as_bytes()).expect("the connection ended too early")
    }

    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        // The balancer may be gone: that is for the test to notice.
        let _ = self.stream.write_all(text.as_ref());
    }
}

impl Scripted {
    pub fn start(script: impl Fn(&mut Served) + Send + Sync + 'static) -> Self {
        Self::at(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub fn at(listener: TcpListener, script: impl Fn(&mut Served) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let (script, seen, count) = (Arc::new(script), heads.clone(), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let (script, heads) = (script.clone(), seen.clone());
                std::thread::spawn(move || script(&mut Served { stream, heads }));
            }
        });
        Self { address, heads, connections }
    }

    /// Answers each bodiless request with its own number on the connection and `name`.
    pub fn plain(name: &'static str) -> Self {
        Self::start(move |served| {
            while let Some(head) = served.head() {
                let target = head.split(' ').nth(1).unwrap().to_owned();
                let body = format!("{name} {target}");
                served.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
            }
        })
    }

    /// An address where nothing listens.
    pub fn refused() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n")
}

pub fn get_and_close(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
}

/// Somebody who takes his time, where that is what is tested.
pub fn pause(length: Duration) {
    let (_keep, never) = std::sync::mpsc::channel::<()>();
    let _ = never.recv_timeout(length);
}

/// Waits until it is so, and says what did not come.
pub fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        pause(Duration::from_millis(1));
    }
}

/// As [`wait`], while the runtime's other tasks go on.
pub async fn wait_async(what: &str, mut is_so: impl FnMut() -> bool) {
    let (begun, mut looks) = (Instant::now(), tokio::time::interval(Duration::from_millis(1)));
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        looks.tick().await;
    }
}

/// Posts a body beside, however slowly it is taken.
pub fn uploading(client: &Client, length: usize) -> JoinHandle<()> {
    let mut writer = client.0.try_clone().unwrap();
    std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
        let _ = writer.write_all(head.as_bytes());
        let _ = writer.write_all(&vec![b'x'; length]);
    })
}
