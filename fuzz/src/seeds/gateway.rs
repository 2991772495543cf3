//! Of the gateway: documents, what nodes tell of them, what balancers tell one another and nodes, tokens, paths.

use bytes::Bytes;
use skep_base::codec;
use skep_gateway::exchange::debts::{self, Debt, Kept};
use skep_gateway::exchange::voids::{self, Void};
use skep_gateway::exchange::{Body, Entry, Frame};
use skep_gateway::figures::{Ask, Counts, Figures, Rest, Servers};
use skep_gateway::limit::{Neighbours, Who};
use skep_gateway::shift::report::{Report, Seen};
use skep_gateway::shift::window as shift;
use skep_gateway::told::Told;
use skep_state::clock::Stamp;
use skep_state::command::Op;
use skep_state::gateway::{DataKey, GatewayOp};
use skep_state::kind::Record;
use skep_state::kinds::gateway::GatewayRecord;
use skep_state::shift::{Phase, Shift, ShiftOp};

fn data_key() -> DataKey {
    DataKey { id: 1 << 90, version: 2, is_spent: true, wrapped: Bytes::from_static(b"wrapped") }
}

/// What changes documents whose secrets are sealed.
pub fn sealed_ops() -> [Op; 4] {
    let (document, source) = (Bytes::from_static(b"{}"), "api".to_owned());
    let (lineage, key) = (8, data_key());
    [
        GatewayOp::SetSealed {
            nonce: 7,
            expect: None,
            lineage,
            document: document.clone(),
            source: source.clone(),
            keys: vec![key.clone()],
        },
        GatewayOp::AddSealed { lineage, document: document.clone(), source, keys: vec![key.clone()] },
        GatewayOp::Seal { lineage, number: 9, from: vec![1], document, keys: vec![key.clone()] },
        GatewayOp::Wrap { keys: vec![key.clone(), key] },
    ]
    .map(|op| Op::Gateway { time_ms: 6, op })
}

/// Two documents, and a request that is remembered.
pub fn documents() -> GatewayRecord {
    let told = vec![(1u64, Stamp(5), "api", 2u64), (3, Stamp(6), "a file", 7)];
    of_head(1, codec::encode(&(7u128, told, vec![(9u64, 3u64)])).expect("a head can be encoded"))
}

/// The same where the second names a data key.
pub fn sealed_documents() -> GatewayRecord {
    let told = vec![(1u64, Stamp(5), "api", 2u64), (3, Stamp(6), "a file", 7)];
    let sealed = (vec![vec![], vec![data_key().id]], vec![data_key()]);
    of_head(2, codec::encode(&(7u128, told, vec![(9u64, 3u64)], sealed)).expect("a head can be encoded"))
}

fn of_head(format: u16, head: Vec<u8>) -> GatewayRecord {
    let bytes = [&(head.len() as u32).to_le_bytes()[..], &head, b"{}{\"a\":1}"].concat();
    GatewayRecord::decode(format, &bytes).expect("what the section's format says")
}

/// One for `a.test` and `*.b.test`, and its key, made for this alone.
const CERTIFICATE: &str = "MIIBcjCCARigAwIBAgIUMd1bqyeK3fyox9OcKhZzcFlLO6UwCgYIKoZIzj0EAwIwADAeFw0yNjEyMDEwMzQ1NTdaFw0zNjExMjgwMzQ1NTdaMAAwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAT7P+SF6M5PsGgYHPow8cagSOzD6t685zvIHfP0Z05xW6+15dwUDvDEMFY1wMMYET6qbO3QA8cOa6txoaePjZXro3AwbjAdBgNVHQ4EFgQUzHpZ7sOC9Z4T6/zJunGnINMdevIwHwYDVR0jBBgwFoAUzHpZ7sOC9Z4T6/zJunGnINMdevIwDwYDVR0TAQH/BAUwAwEB/zAbBgNVHREEFDASggZhLnRlc3SCCCouYi50ZXN0MAoGCCqGSM49BAMCA0gAMEUCIQDRmR5ND+6GtmWqht4wUzeP2t793vkhyfXpKXTBQZsJHQIgW1ZnsKpB31hqQGxecyB+ZbWOpPWNyObPXTgZmfjQGtw=";
const CERTIFICATE_KEY: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg599mqTQwVNM0wnr/jpyeUalHTsVSX4aegAOFOnkdYSGhRANCAAT7P+SF6M5PsGgYHPow8cagSOzD6t685zvIHfP0Z05xW6+15dwUDvDEMFY1wMMYET6qbO3QA8cOa6txoaePjZXr";

pub fn gateway_certificates() -> Vec<Vec<u8>> {
    skep_gateway::auth::jwt::decode(CERTIFICATE.trim_end_matches('=').replace('+', "-").replace('/', "_").as_bytes()).into_iter().collect()
}

pub fn gateway_documents() -> Vec<Vec<u8>> {
    let toml = "unmatched = \"not-found\"\n[services.web]\nurls = [\"http://10.0.0.5:8080\", {url = \"http://web\", weight = 2}]\n\
                probe = {path = \"/up\", status = \"200-299\", interval = \"1s\"}\nhost = \"client\"\nmax_in_flight = 3\n\
                [routes.a]\nmatch = {hosts = [\"*.test\"], path = \"/a\", methods = [\"GET\"], headers = {x = \"1\"}}\n\
                services = {web = 1, skep = 2}\nstrip_prefix = true\nhttps_only = true\nmax_body = \"1MiB\"\ncache = {max_entry = \"1KiB\", grace = \"5s\"}\n\
                maintenance = {retry_after_s = 5, allow = [\"10.0.0.0/8\"]}\naddresses = {deny = [\"::/0\"]}\n\
                request_headers = {set = {a = \"b\"}, add = {c = \"d\"}, remove = [\"e\"]}\n\
                limits = [{rate = 5, per = \"minute\", by = \"address\", burst = 9, scope = \"balancer\"}, {scope = \"cluster\", rate = 1, per = \"hour\", by = \"route\"}]\n\
                [routes.b]\nmatch.exact_path = \"/a/b\"\nredirect = {scheme = \"https\", status = 301}\n\
                auth = {keys = {header = \"x-key\", authorization = false, query = \"key\"}, groups = [\"g\"]}\n\
                ask = {service = \"web\", path = \"/auth?a\", send = [\"cookie\"], take = [\"x-user\"], timeout = \"1s\"}\n\
                compress = {types = [\"text/*\", \"+json\"], min = \"2KiB\", level = 2}\n\
                [consumers.c]\ngroups = [\"g\"]\nkeys = [\"0123456789abcdef\", {key = \"fedcba9876543210\", label = \"l\"}]\n\
                passwords = [{user = \"u\", password = \"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc\"}]\n\
                [routes.c]\nmatch.path = \"/c\"\nservice = \"web\"\nauth = {jwt = {issuers = [\"i\"], forward = true}, basic = true}\n\
                [issuers.i]\niss = \"i\"\naud = [\"a\"]\ngroups = \"g\"\nleeway = \"5s\"\nkeys = [{secret = \"a secret of thirty-two bytes or more\", kid = \"k\", alg = \"HS256\"}]\n\
                [issuers.j]\niss = \"j\"\naud = \"any\"\nkeys.keys = [{kty = \"OKP\", crv = \"Ed25519\", x = \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]\n\
                [issuers.k]\niss = \"k\"\naud = \"any\"\njwks = \"https://k.test:8443/keys?v=1\"\nrefresh = \"1h\"\ntls.name = \"l.test\"\n";
    let json = r#"{"services": {"w": {"urls": ["http://a:1"]}}, "routes": {"r": {"service": "w"}}}"#;
    let sealed = format!(
        r#"{{"issuers": {{"i": {{"iss": "i", "aud": "any", "keys": [{{"secret": "sealed1:{}:AAAA"}}, {{"secret": "sealed:{}"}}]}}}}}}"#,
        "0f".repeat(32),
        "f0".repeat(32)
    );
    let pem = |kind: &str, text: &str| format!("-----BEGIN {kind}-----\\n{text}\\n-----END {kind}-----\\n");
    let certificates = format!(
        r#"{{"certificates": {{"c": {{"certificate": "{}", "key": "{}", "hosts": ["a.test", "*.b.test"]}}}}}}"#,
        pem("CERTIFICATE", CERTIFICATE),
        pem("PRIVATE KEY", CERTIFICATE_KEY)
    );
    vec![toml.into(), json.into(), sealed.into(), certificates.into()]
}

/// What changes shifts.
pub fn shift_ops() -> [Op; 3] {
    let (from, to, abort) = ("b".into(), "g".into(), "5xx>1%".into());
    let shift = Shift { from, to, from_weight: 1, to_weight: 0, over_ms: 60_000, abort }.into();
    let (id, route) = (7, || "a".to_owned());
    [
        ShiftOp::Begin { id, after: 0, route: route(), shift },
        ShiftOp::Step { id, route: route(), share: 100 },
        ShiftOp::End { id, route: route(), phase: Phase::Back, why: "c".into() },
    ]
    .map(|op| Op::Shifts { time_ms: 6, op })
}

pub fn gateway_lines() -> Vec<Vec<u8>> {
    let state =
        format!("{{\"lineage\":\"{}\",\"revision\":7,\"document\":{{\"routes\":{{}}}}}}\n", "0f".repeat(16));
    let none = format!("{{\"lineage\":\"{}\",\"revision\":0,\"document\":null}}", "0".repeat(32));
    let purges =
        Told::Purges { cluster: 7, since: 3, last: 5, list: "[{\"number\":4,\"purge\":{\"all\":true}}]" };
    let lines = [state.into(), none.into(), b"{\"beat\":7}\n".to_vec(), b"{\"later\":1}\n".to_vec()];
    let shifts = r#"{"shifts":[{"id":1,"route":"w","from":"a","to":"b","share":7,"abort":"5xx>1%"}],"at":5}"#;
    lines.into_iter().chain([purges.encode(), shifts.into()]).collect()
}

pub fn gateway_purges() -> Vec<Vec<u8>> {
    [
        r#"{"url":"https://a.test:81/%61%2fb?y"}"#,
        r#"{"prefix":"/x/"}"#,
        r#"{"route":"a"}"#,
        r#"{"service":"skep"}"#,
        r#"{"group":"a b"}"#,
        r#"{"all":true}"#,
        r#"[{"number":4,"purge":{"message":7}},{"number":5,"purge":{"messages":9}}]"#,
    ]
    .map(|it| it.as_bytes().to_vec())
    .into()
}

pub fn cache_heads() -> Vec<Vec<u8>> {
    [
        "cache-control: public, max-age=60, stale-if-error=5\r\netag: \"a\"\r\nvary: accept\r\nage: 5\r\n",
        "cdn-cache-control: max-age=60;x=1, private=?0\r\nexpires: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "cache-groups: \"a\", \"b c\";x\r\ncache-group-invalidation: \"a\"\r\ncontent-type: a/b\r\n",
        "bytes=0-5",
        "\0\0\0\x01a\0\0\0\x02/b\0\0\0\0",
    ]
    .map(|it| it.as_bytes().to_vec())
    .into()
}

pub fn gateway_frames() -> Vec<Vec<u8>> {
    let who =
        [Who::Client(Neighbours::V4(7)), Who::Client(Neighbours::V6(8)), Who::Consumer(9), Who::Anybody];
    let entries = who.map(|who| Entry { limit: 1, who, count: 2 });
    let frame = |body| Frame { from: 1, to: 2, number: 3, body }.encode();
    let debts: Vec<Debt> = who.map(|who| Debt { limit: 1, who, step: 2, owed: 3 }).into();
    let of_debts = |body| debts::Frame { from: 1, to: 2, number: 3, body }.encode();
    vec![
        frame(Body::Seen),
        frame(Body::Counts(vec![])),
        frame(Body::Counts(entries.into())),
        of_debts(debts::Body::Ask { place: 0, until: debts::PLACES }),
        of_debts(debts::Body::Page { place: 0, next: 9, debts: debts.clone() }),
        of_debts(debts::Body::Nothing),
        voids::Frame {
            from: 1,
            to: 2,
            voids: vec![
                Void::Url(b"key".as_slice().into()),
                Void::Group { service: 1, secure: true, group: 2, host: b"a.test".as_slice().into() },
            ],
        }
        .encode(),
        Kept { written_ms: 7, debts }.encode(),
    ]
}

pub fn gateway_tokens() -> Vec<Vec<u8>> {
    let claims = r#"{"iss":"a","sub":"s","aud":["x"],"exp":9,"nbf":1,"iat":2.5,"jti":"i","g":["h"]}"#;
    let head = r#"{"alg":"EdDSA","kid":"k","typ":"JWT"}"#;
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJiIiwic3ViIjoicyIsImV4cCI6OX0.AAAA";
    [head, claims, token].map(|it| it.into()).into()
}

pub fn gateway_key_sets() -> Vec<Vec<u8>> {
    let ed25519 = r#"{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "a", "use": "sig"}"#;
    let p256 = r#"{"kty": "EC", "crv": "P-256", "x": "04N0xi21hshyvBp7I167sbE_bXqyqkAPfefdklMO7wY",
        "y": "UI8exy-C06a7DUnjIdENkxeFtHM4-l_41LqEw9nVgmw", "alg": "ES256", "key_ops": ["verify"]}"#;
    let rsa = format!(r#"{{"kty": "RSA", "n": "w{}aQ", "e": "AQAB", "kid": "r"}}"#, "aWl".repeat(113));
    let others = r#"{"kty": "oct", "k": "AAAA"}, {"kty": "EC", "d": "AAAA"}, {"kty": "X", "use": "enc"}, 7"#;
    let all = format!(r#"{{"keys": [{ed25519}, {p256}, {rsa}, {others}], "more": null}}"#);
    vec![all.into(), format!(r#"{{"keys": [{ed25519}]}}"#).into(), br#"{"keys": []}"#.to_vec()]
}

pub fn gateway_codings() -> Vec<Vec<u8>> {
    let lists = ["gzip;q=0.5, zstd;q=1.000", "*;q=0, x-gzip\nidentity;q=0", "W/\"a--skep\", \"b,c\"", "text/html; a=b"];
    lists.map(|it| it.into()).into()
}

pub fn gateway_paths() -> Vec<Vec<u8>> {
    ["/a/%61%2d/b;c", "/%2e%2e/a", "/a//b", "/..;/", "/a%2fb", "A.test.:80", "?a=1&%6bey=2;key=3&b"]
        .map(|it| it.into())
        .into()
}

pub fn gateway_figures() -> Vec<Vec<u8>> {
    let counts = Counts { recent: 3, answers: [0, 0, 300, 0, 1, 0], refused: [0, 0, 1, 0, 0, 0, 0] };
    let figures = Figures {
        over_ms: 1000,
        all: counts,
        routes: (0..40).map(|n| (format!("a-route-with-a-name-{n}"), counts)).collect(),
        services: vec![Servers { name: "web".into(), known: 3, able: 2 }],
        rest: Rest { routes: 1, services: 0, counts },
    };
    let ask = Ask { node: 1, number: 2 }.encode();
    let seen = Seen { shift: 7, counts: shift::Counts { requests: 20, failed: 3 }, has_left: true };
    let report = Report { balancer: 1, seen: vec![seen] }.encode();
    figures.parts(2).into_iter().chain([ask, report]).collect()
}
