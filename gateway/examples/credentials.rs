//! What it costs to look at a credential: a key, a token that was seen before, one that was not. Prints a row of a
//! Markdown table for each. `scripts/bench/gateway` runs it.

use std::error::Error;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use skep_gateway::auth::jwt::{KEPT_MAX, Verified, encode};
use skep_gateway::auth::password::Checked;
use skep_gateway::auth::{Auth, Consumers, Keys, Tokens, make_key};
use skep_gateway::{Document, Table};

const CONSUMERS: usize = 1000;
/// Tokens that all were seen before.
const SEEN: usize = 1000;
/// More than are kept: when the turn of one comes again, it is forgotten.
const ANEW: usize = 2 * KEPT_MAX;
/// Each goes through all tokens or keys once; the first warms up.
const ROUNDS: usize = 21;
const NOW_S: u64 = 1_800_000_000;
const SECRET: &str = "a secret of thirty-two bytes, so.";

fn main() -> Result<(), Box<dyn Error>> {
    let signer = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let keys: Vec<String> = (0..CONSUMERS).map(key).collect();
    let consumers = consumers(&keys, signer.public_key().as_ref())?;
    println!("| looked at | µs, median | µs, least | bar |");
    println!("|---|--:|--:|--:|");

    let by_key = Auth { keys: Some(Keys::default()), tokens: None, basic: false, groups: Vec::new() };
    let mut rounds = Rounds::new("key", 0.5);
    for _ in 0..ROUNDS {
        rounds.time(&keys, |key| is_known(&consumers, &by_key, None, "x-api-key", key));
    }
    rounds.print();

    let secret = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let hs256 = |signed: &[u8]| Ok(hmac::sign(&secret, signed).as_ref().to_vec());
    let random = SystemRandom::new();
    let es256 = |signed: &[u8]| Ok(signer.sign(&random, signed)?.as_ref().to_vec());
    row("token seen before (HS256)", 0.5, &consumers, "hs", &tokens(SEEN, "hs", "HS256", hs256)?);
    row("token anew, HS256", 5.0, &consumers, "hs", &tokens(ANEW, "hs", "HS256", hs256)?);
    row("token anew, ES256", 120.0, &consumers, "es", &tokens(ANEW, "es", "ES256", es256)?);
    Ok(())
}

/// Of tokens that one core has looked at in the round before, where it keeps so many.
fn row(name: &'static str, bar_us: f64, consumers: &Consumers, issuer: &str, tokens: &[String]) {
    let tokens_of = Tokens { issuers: vec![issuer.to_owned()], forward: false };
    let auth = Auth { keys: None, tokens: Some(tokens_of), basic: false, groups: Vec::new() };
    let mut verified = Verified::new(Default::default());
    let mut rounds = Rounds::new(name, bar_us);
    for _ in 0..ROUNDS {
        let look = |token: &String| is_known(consumers, &auth, Some(&mut verified), "authorization", token);
        rounds.time(tokens, look);
    }
    rounds.print();
}

/// A request as a program sends it.
fn is_known(
    consumers: &Consumers,
    auth: &Auth,
    verified: Option<&mut Verified>,
    name: &str,
    value: &str,
) -> bool {
    let fields = [
        ("user-agent", "curl/8.14.1"),
        ("accept", "application/json"),
        ("accept-encoding", "gzip, br"),
        (name, value),
    ];
    let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    consumers.authenticate(auth, verified, NOW_S, |_, _| Checked::Wrong, fields, b"").is_ok()
}

struct Rounds {
    name: &'static str,
    bar_us: f64,
    each_us: Vec<f64>,
}

impl Rounds {
    fn new(name: &'static str, bar_us: f64) -> Self {
        Self { name, bar_us, each_us: Vec::new() }
    }

    fn time(&mut self, all: &[String], mut is_known: impl FnMut(&String) -> bool) {
        let begun = Instant::now();
        for it in all {
            assert!(black_box(is_known(black_box(it))), "{}: nobody has it", self.name);
        }
        self.each_us.push(begun.elapsed().as_secs_f64() * 1e6 / all.len() as f64);
    }

    fn print(&self) {
        let mut each = self.each_us[1..].to_vec();
        each.sort_by(f64::total_cmp);
        let (median, least) = (each[each.len() / 2], each[0]);
        println!("| {} | {median:.2} | {least:.2} | < {} |", self.name, self.bar_us);
    }
}

fn key(n: usize) -> String {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
    make_key(bytes)
}

fn tokens(
    count: usize,
    issuer: &str,
    algorithm: &str,
    sign: impl Fn(&[u8]) -> Result<Vec<u8>, Box<dyn Error>>,
) -> Result<Vec<String>, Box<dyn Error>> {
    let head = encode(format!(r#"{{"alg":"{algorithm}","kid":"{issuer}","typ":"JWT"}}"#).as_bytes());
    let token = |n: usize| {
        let claims = format!(
            r#"{{"iss":"https://{issuer}.test/","aud":"orders","sub":"user-{n}","iat":{NOW_S},"exp":{},"scope":"read write"}}"#,
            NOW_S + 3600
        );
        let signed = format!("{head}.{}", encode(claims.as_bytes()));
        let signature = encode(&sign(signed.as_bytes())?);
        Ok(format!("Bearer {signed}.{signature}"))
    };
    (0..count).map(token).collect()
}

/// `point` is the public key of who signs by ES256, uncompressed.
fn consumers(keys: &[String], point: &[u8]) -> Result<Consumers, Box<dyn Error>> {
    let mut consumers = String::new();
    for (at, key) in keys.iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        write!(consumers, r#"{comma}"c{at}":{{"keys":["{key}"]}}"#)?;
    }
    let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
    let document = format!(
        r#"{{"consumers":{{{consumers}}},"issuers":{{
            "hs":{{"iss":"https://hs.test/","aud":"orders","groups":"scope",
                "keys":[{{"secret":"{SECRET}","alg":"HS256","kid":"hs"}}]}},
            "es":{{"iss":"https://es.test/","aud":"orders","groups":"scope",
                "keys":[{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","kid":"es"}}]}}}}}}"#
    );
    let document = Document::read(&document).map_err(|faults| format!("{faults:?}"))?;
    Ok(Table::compile(document).map_err(|faults| format!("{faults:?}"))?.consumers)
}
