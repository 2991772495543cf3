//! What the nodes must hold, given what the writers saw.
//!
//! Knows three outcomes: acknowledged (must be there), unknown (may be there, once), never (must not).

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::http::Client;
use super::load::{Ledger, PREFIX};

const PAGE_LIMIT: usize = 1000;

/// Messages read one by one at each node; of more than that, every so-manieth.
const READ_COUNT_MAX: usize = 500;

/// One entry of the list of messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Listed {
    pub seq: u64,
    pub digest: String,
    pub message: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Listed>,
    next: Option<u64>,
}

/// The whole list, in the order in which the node gives it.
pub async fn list(client: &Client) -> Vec<Listed> {
    let mut all = Vec::new();
    let mut after = 0;
    loop {
        let path = format!("/messages?after={after}&limit={PAGE_LIMIT}");
        let answer = client.get(&path).await.unwrap_or_else(|failure| panic!("GET {path}: {failure:?}"));
        assert_eq!(answer.status, 200, "GET {path} at {}: {answer:?}", client.address);
        let page: Page = serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("GET {path}: {error}: {}", answer.text()));
        assert!(page.messages.len() <= PAGE_LIMIT, "{path} gave {} messages", page.messages.len());
        all.extend(page.messages);
        match page.next {
            Some(next) => {
                assert!(next > after, "GET {path}: next is {next}");
                after = next;
            }
            None => return all,
        }
    }
}

/// Holds every node against the ledger; panics with what is wrong. Gives the number of messages.
pub async fn verify(clients: &[Client], ledger: &Ledger) -> usize {
    assert!(!clients.is_empty(), "no node to verify");
    let mut first: Option<Vec<Listed>> = None;
    for client in clients {
        let listed = list(client).await;
        check_list(&listed, ledger, &client.address.to_string());
        read_one_by_one(client, ledger).await;
        match &first {
            None => first = Some(listed),
            Some(other) => {
                assert_eq!(other.len(), listed.len(), "{} lists another number", client.address);
                let differing = other.iter().zip(&listed).find(|(a, b)| a != b);
                assert!(differing.is_none(), "{} lists otherwise: {differing:?}", client.address);
            }
        }
    }
    first.map_or(0, |listed| listed.len())
}

fn check_list(listed: &[Listed], ledger: &Ledger, at: &str) {
    let mut by_text: HashMap<&str, &Listed> = HashMap::with_capacity(listed.len());
    let mut digests = HashSet::with_capacity(listed.len());
    for (position, entry) in listed.iter().enumerate() {
        assert_eq!(entry.seq, position as u64 + 1, "{at}: seq has a gap or is out of order");
        assert!(digests.insert(entry.digest.as_str()), "{at}: {} is listed twice", entry.digest);
        if let Some(text) = &entry.message {
            by_text.insert(text, entry);
        }
    }
    for acked in &ledger.acked {
        let Some(entry) = by_text.get(acked.text.as_str()) else {
            panic!("{at}: acknowledged seq {} is lost: {acked:?}; {} are listed", acked.seq, listed.len());
        };
        assert_eq!(
            (entry.seq, &entry.digest),
            (acked.seq, &acked.digest),
            "{at}: listed otherwise than acked"
        );
    }
    let mut known: HashSet<&str> = ledger.acked.iter().map(|acked| acked.text.as_str()).collect();
    for failed in &ledger.failed {
        if failed.never {
            assert!(
                !by_text.contains_key(failed.text.as_str()),
                "{at}: certainly not executed, yet there: {failed:?}"
            );
        } else {
            known.insert(&failed.text);
        }
    }
    for text in by_text.keys().filter(|text| text.starts_with(PREFIX)) {
        assert!(known.contains(text), "{at}: nobody wrote {text}");
    }
}

async fn read_one_by_one(client: &Client, ledger: &Ledger) {
    let stride = ledger.acked.len().div_ceil(READ_COUNT_MAX).max(1);
    for acked in ledger.acked.iter().step_by(stride) {
        let path = format!("/messages/{}", acked.digest);
        let answer = client.get(&path).await.unwrap_or_else(|failure| panic!("GET {path}: {failure:?}"));
        assert_eq!(answer.status, 200, "GET {path} at {}: {answer:?}", client.address);
        assert_eq!(answer.json()["message"].as_str(), Some(acked.text.as_str()), "GET {path}");
    }
}
