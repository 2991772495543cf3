//! `/cluster` as a test reads it.

use serde::Deserialize;

use crate::clients::http::{Client, Failure};

/// What one node knows of its cluster.
#[derive(Debug, Clone, Deserialize)]
#[allow(dead_code)] // Every field is read by serde: one that is missing fails the test.
pub struct Status {
    pub cluster_id: Option<String>,
    pub node_id: String,
    pub leader: Option<String>,
    pub term: u64,
    pub committed: Option<u64>,
    pub applied: Option<u64>,
    pub members: Vec<Member>,
}

/// One program in a node's view.
#[derive(Debug, Clone, Deserialize)]
#[allow(dead_code)]
pub struct Member {
    pub id: String,
    pub role: String,
    pub state: Option<String>,
    pub raft: Option<String>,
    pub http: Option<String>,
    pub peer: Option<String>,
    pub version: Option<String>,
}

impl Member {
    /// Gossip believes that it runs.
    pub fn is_live(&self) -> bool {
        matches!(self.state.as_deref(), Some("joining" | "ready" | "draining"))
    }

    pub fn is_ready(&self) -> bool {
        self.state.as_deref() == Some("ready")
    }

    /// It counts for the quorum.
    pub fn is_voter(&self) -> bool {
        matches!(self.raft.as_deref(), Some("leader" | "follower" | "candidate" | "voter"))
    }
}

impl Status {
    pub fn member_at(&self, http: &str) -> Option<&Member> {
        // A node that came back under a new id may be listed beside its former self.
        let mut found: Vec<&Member> =
            self.members.iter().filter(|member| member.http.as_deref() == Some(http)).collect();
        found.sort_by_key(|member| member.is_live());
        found.pop()
    }

    pub fn voters(&self) -> usize {
        self.members.iter().filter(|member| member.is_voter()).count()
    }
}

/// Asks an admin address; `None` while it does not answer.
pub async fn status(admin: &Client) -> Option<Status> {
    let answer = match admin.get("/cluster").await {
        Ok(answer) => answer,
        Err(Failure::NotSent(_) | Failure::Unknown(_)) => return None,
    };
    assert_eq!(answer.status, 200, "GET /cluster: {answer:?}");
    Some(
        serde_json::from_slice(&answer.body)
            .unwrap_or_else(|error| panic!("/cluster is not as agreed ({error}): {}", answer.text())),
    )
}
