//! First inputs: valid encodings, from which the fuzzer finds the rest.
//!
//! A target writes its own before the fuzzer reads its corpus, into the folder that `scripts/fuzz`
//! names in the environment. So there is no second program to build, and no seed can grow stale.

mod gateway;

pub use self::gateway::{
    cache_heads, gateway_codings, gateway_documents, gateway_figures, gateway_frames, gateway_key_sets, gateway_lines,
    gateway_paths, gateway_purges, gateway_tokens,
};

use std::path::Path;

use bytes::Bytes;
use skep_base::codec;
use skep_base::id::{ClusterId, NodeId, RequestId};
use skep_members::gossip::{NodeState, PeerRecord, Program, RaftRole};
use skep_members::key::KeyRing;
use skep_raft::formation::bootstrap::{BootstrapAsk, Proposal};
use skep_raft::types::{StoredMembership, Vote};
use skep_raft::wire::{
    self, AppendRequest, ConnectionKind, Frame, GROUP, Hello, HelloAnswer, PROTOCOL, ProposeError,
    RecordName, RejectReason, Request, Response,
};
use skep_state::clock::mends::{Mend, Mends};
use skep_state::clock::{Clock, Stamp};
use skep_state::command::{ClaimKey, Command, Op, OpOutcome};
use skep_state::gateway::{GatewayOp, Revision};
use skep_state::kinds::claims::{ClaimRecord, ClaimsRecord};
use skep_state::kinds::messages::removed::RemovedRecord;
use skep_state::kinds::text::TextRecord;
use skep_state::kinds::{CommonRecord, KindsRecord};
use skep_state::level::Level;
use skep_state::message::{Digest, TEXT_PLAIN};
use skep_state::rolling::StateHash;
use skep_state::schedule::{Fire, Schedule, ScheduleOp, Timing};
use skep_state::task::{End, NewTask, Policy, TaskClaim, TaskId, TaskOp, When};
use skep_store::{SegmentMeta, SnapshotHeader};

/// The environment variable that names the folder.
pub const FOLDER: &str = "SKEP_FUZZ_SEEDS";

/// Writes the seeds, where the environment says so.
pub fn write(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    for (number, seed) in seeds().iter().enumerate() {
        std::fs::write(Path::new(&folder).join(format!("seed-{number:02}")), seed)
            .expect("seeds can be written");
    }
}

fn ops() -> Vec<Op> {
    let body = Bytes::from_static(b"foo");
    let digest = Digest::of(&body);
    let id = TaskId { seq: 1, nonce: 2 };
    let task = NewTask {
        queue: "q".into(),
        kind: "k".into(),
        payload: body.clone(),
        priority: 5,
        when: When::After { delay_ms: 1 },
        policy: Policy::default(),
        unique: Some("u".into()),
        key: Some("k".into()),
    };
    let (name, after_ms, at_ms) = ("a".into(), 4, 5);
    let fire = Fire { name, revision: 3, after_ms, at_ms, passed: 1, runs: true, nonce: 7 };
    let timing = Timing::Cron { expression: "0 3 * * mon".into(), zone: "UTC".into() };
    let schedule = Schedule { timing, is_paused: false, catches_up: true, task: task.clone() }.into();
    let claim = TaskClaim {
        queues: vec!["q".into()],
        worker: "w".into(),
        number: 1,
        max: 8,
        holds: vec![9],
        closes: true,
    };
    vec![
        Op::PutMessage {
            digest,
            content_type: TEXT_PLAIN.into(),
            body: body.clone(),
            time_ms: 1_700_000_000_000,
            nonce: u64::MAX,
        },
        Op::PutMessage { digest, content_type: String::new(), body: Bytes::new(), time_ms: 0, nonce: 0 },
        Op::Claim { key: ClaimKey(1), fingerprint: 2, time_ms: 3, ttl_ms: 4 },
        Op::WriteText { request: RequestId(7), text: body.clone(), time_ms: u64::MAX },
        Op::DropMessages { upto: 5 },
        Op::Purges { op: skep_state::purge::PurgeOp::Add { nonce: 7, what: body.clone() } },
        Op::RemoveMessage { digest },
        Op::Tasks { time_ms: 6, op: TaskOp::Put { nonce: 7, tasks: vec![task.clone()] } },
        Op::Tasks { time_ms: 6, op: TaskOp::PutBatch { nonce: 7, keep_ms: 8, tasks: vec![task.clone()] } },
        Op::Tasks {
            time_ms: 6,
            op: TaskOp::EndWith { id, fence: 9, result: body.clone(), nonce: 10, follow: vec![task] },
        },
        Op::Tasks { time_ms: 6, op: TaskOp::Claim(claim) },
        Op::Tasks { time_ms: 6, op: TaskOp::End { id, fence: 9, end: End::Snooze { delay_ms: 10 } } },
        Op::Gateway {
            time_ms: 6,
            op: GatewayOp::Set {
                nonce: 7,
                expect: Some(Revision { lineage: 8, number: 9 }),
                lineage: 8,
                document: Bytes::from_static(b"{}"),
                source: "api".into(),
            },
        },
        Op::Gateway { time_ms: 6, op: GatewayOp::Renew { lineage: 8 } },
        Op::Schedules { time_ms: 6, op: ScheduleOp::Set { nonce: 7, name: "a".into(), schedule } },
        Op::Schedules { time_ms: 6, op: ScheduleOp::Fire(fire) },
        Op::Schedules { time_ms: 6, op: ScheduleOp::Remove { nonce: 7, name: "a".into() } },
    ]
}

/// Commands with no operation, one of each, and all.
pub fn commands() -> Vec<Vec<u8>> {
    let ops: Vec<Op> = ops().into_iter().chain(gateway::sealed_ops()).chain(gateway::shift_ops()).collect();
    let mut sets: Vec<Vec<Op>> = ops.iter().map(|op| vec![op.clone()]).collect();
    sets.push(Vec::new());
    sets.push(ops);
    sets.into_iter().map(|ops| encode(&Command::new(ops))).collect()
}

/// Frames and greetings, each behind the byte that picks its decoder.
pub fn frames() -> Vec<Vec<u8>> {
    let request = |request| Frame::Request { id: 1, group: GROUP, timeout_ms: 500, request };
    let response = |response| Frame::Response { id: 1, response };
    let append = || AppendRequest {
        vote: Vote::new(3, 4),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    };
    let outcome = OpOutcome::Message { seq: 1, created: true };
    let frames = [
        Frame::Ping,
        Frame::Pong,
        Frame::Goodbye,
        Frame::Cluster(ClusterId(7)),
        request(Request::Propose { ops: ops() }),
        request(Request::ReadIndex { vote: None }),
        request(Request::Hashes),
        request(Request::Beat {
            worker: "w".into(),
            stream: 3,
            fences: vec![1, 1 << 40],
            slots: 8,
            version: "1.2.3".into(),
            quiet: Some(true),
        }),
        request(Request::Quiet { worker: "w".into(), quiet: true }),
        request(Request::Workers { after: "w".into(), limit: 100 }),
        request(Request::Gone { worker: "w".into(), stream: 3, ago_ms: 1000, fences: vec![7] }),
        request(Request::Records(vec![RecordName::Message { seq: 8 }, RecordName::Claim { number: 9 }])),
        request(Request::Append(append())),
        request(Request::Bootstrap(BootstrapAsk::Promise(Proposal {
            ballot: 1,
            proposer: NodeId(1),
            cluster: ClusterId(2),
            members: vec![NodeId(1), NodeId(2), NodeId(3)],
            expect: 3,
        }))),
        response(Response::Proposed(Ok(vec![outcome, OpOutcome::Text { version: 2 }]))),
        response(Response::Proposed(Err(ProposeError::NotLeader { leader: Some(NodeId(1)) }))),
        response(Response::ReadIndex(Ok(9))),
        response(Response::Hashes(vec![(4096, 1 << 100), (4100, 7)])),
        response(Response::Records(vec![Some(Bytes::from_static(b"record")), None])),
        response(Response::Failed("why".into())),
        Frame::StreamOpen { stream: 1, group: GROUP },
        Frame::Append { stream: 1, request: append() },
        Frame::StreamClosed { stream: 1, error: Some("why".into()) },
        Frame::SnapshotChunk(Bytes::from_static(b"chunk")),
        Frame::SnapshotEnd { bytes: 5 },
    ];
    let hello = Hello::new(ConnectionKind::Calls, NodeId(1), 2, Some(ClusterId(3)), Some(NodeId(4)));
    let accept = HelloAnswer::Accept {
        protocol: PROTOCOL.1,
        node: NodeId(1),
        session: 2,
        cluster: Some(ClusterId(3)),
    };
    let reject = HelloAnswer::Reject { reason: RejectReason::WrongCluster, detail: "why".into() };
    let mut seeds: Vec<_> = frames
        .iter()
        .map(|frame| behind(0, &wire::encode_frame(frame).expect("a frame can be encoded")))
        .collect();
    seeds.push(behind(1, &encode(&hello)));
    seeds.extend([accept, reject].map(|answer| behind(2, &encode(&answer))));
    // A body in one piece, then one in two.
    seeds.push(vec![3, 2, 0, 0, 0, 1, 2, 1, 0, 0, 0x80, 3, 1, 0, 0, 0xc0, 4]);
    seeds
}

/// Headers of an empty store, of one with everything of the first format, of the second, and of the
/// third, which has sections, without and with files of claims, of a clock that was set back, and with documents of the gateway, open and sealed, each
/// behind its format.
pub fn snapshot_headers() -> Vec<Vec<u8>> {
    let empty = SnapshotHeader {
        last_log_id: None,
        membership: StoredMembership::default(),
        segments: Vec::new(),
        claim_files: Vec::new(),
        payload_files: Vec::new(),
        kinds: KindsRecord::default(),
    };
    let text = TextRecord {
        version: 2,
        text: Bytes::from_static(b"text"),
        time: Stamp(5),
        recent: vec![(RequestId(1), 1), (RequestId(2), 2)],
    };
    let common = CommonRecord { level: Level::FIRST, clock: Clock::at(Stamp(6)), ..CommonRecord::default() };
    let full = SnapshotHeader {
        segments: vec![
            SegmentMeta { first_seq: 1, count: 2, len: 500, sealed: true },
            SegmentMeta { first_seq: 3, count: 1, len: 200, sealed: false },
        ],
        kinds: KindsRecord { common, text, ..KindsRecord::default() },
        ..empty.clone()
    };
    let mut with_gaps = full.clone();
    with_gaps.kinds.messages =
        RemovedRecord { floor: 1, last_seq: 3, singly: vec![3], remembered: vec![Digest::of(b"foo")] };
    with_gaps.kinds.claims.early = vec![ClaimRecord {
        key: ClaimKey(1),
        fingerprint: 2,
        expires_ms: 3,
        outcome: OpOutcome::Text { version: 1 },
    }];
    let mut in_sections = with_gaps.clone();
    in_sections.kinds.common.level = Level::SECTIONS;
    let mut with_claim_files = in_sections.clone();
    with_claim_files.kinds.common.level = Level::CLAIM_RECORDS;
    with_claim_files.kinds.claims = ClaimsRecord { early: Vec::new(), first: 1024, next: 1030 };
    with_claim_files.claim_files = vec![
        SegmentMeta { first_seq: 1000, count: 20, len: 64 + 64 * 20, sealed: true },
        SegmentMeta { first_seq: 1020, count: 10, len: 64 + 64 * 10, sealed: false },
    ];
    let mut with_hash = with_claim_files.clone();
    (with_hash.kinds.common.level, with_hash.kinds.common.hash) = (Level::ROLLING_HASH, Some(StateHash(7)));
    let mut set_back = with_hash.clone();
    set_back.kinds.common.level = Level::TIME_MENDS;
    let mend = Mend { upto_seq: 2, before_claim: 1026, ceiling: Stamp(5) };
    set_back.kinds.common.mends = Mends::default().with(mend, 0, 0).unwrap_or_default();
    let mut with_gateway = set_back.clone();
    with_gateway.kinds.common.level = Level::GATEWAY;
    with_gateway.kinds.gateway = gateway::documents();
    let mut sealed = with_gateway.clone();
    sealed.kinds.common.level = Level::SEALED;
    sealed.kinds.gateway = gateway::sealed_documents();
    [empty, full, with_gaps, in_sections, with_claim_files, with_hash, set_back, with_gateway, sealed]
        .iter()
        .map(|header| {
            let (format, bytes) = header.encode().expect("a header can be encoded");
            behind(format as u8, &bytes)
        })
        .collect()
}

/// Sealed gossip messages and records, each behind the byte that picks its decoder.
pub fn gossip() -> Vec<Vec<u8>> {
    let record = PeerRecord {
        id: NodeId(1),
        program: Program::Node,
        state: NodeState::Ready,
        cluster: Some(ClusterId(2)),
        peer: ([127, 0, 0, 1], 7400).into(),
        http: Some(([127, 0, 0, 1], 8080).into()),
        admin: None,
        version: "0.1.0".into(),
        protocol: (1, 1),
        expect: 3,
        raft: RaftRole::Leader,
        leader: Some(NodeId(1)),
        term: 7,
        gateway: None,
        generation: 9,
    };
    let values = record.encode().map(|(_, value)| value).join("\n");
    // A SYN of the first protocol for a cluster "skep", with no digest: the magic number, the
    // version, the type, then a count and a text with its length.
    let mut syn = 45_139u16.to_le_bytes().to_vec();
    syn.extend([0, 0, 0, 0, 4, 0]);
    syn.extend(b"skep");
    let keys = KeyRing::insecure_loopback().edge_lines().join("\n");
    let keys = format!("# both forms\n{}\n{keys}\n", KeyRing::generate_line());
    vec![
        behind(0, &syn),
        behind(1, &syn),
        behind(2, format!("{}\n{values}", record.id).as_bytes()),
        behind(3, &syn),
        behind(3, &gossip_message(true)),
        behind(1, &gossip_message(false)),
        behind(4, keys.as_bytes()),
    ]
}

/// What a member answers, of two others.
fn gossip_message(compressed: bool) -> Vec<u8> {
    use skep_members::gossip::wire::{self, Body, Delta, Digest, Digests, Key, Message, Status};
    let ids = [1u64, 2].map(|node| {
        chitchat::ChitchatId::new(format!("{node:016x}"), 9, ([10, 0, 0, node as u8], 7400).into())
    });
    let key = |key: &str, value: &str, version| Key {
        key: key.into(),
        value: value.into(),
        version,
        status: Status::Set,
    };
    let digest = ids.iter().map(|id| Digest { id: id.clone(), heartbeat: 7, floor: 0, version: 0 }).collect();
    let keys = vec![key("s", "node - - 0.1.0 1-1 3", 1), key("t", "ready", 2)];
    let delta = ids.map(|id| Delta { id, floor: 0, from: 0, keys: keys.clone(), version: None }).to_vec();
    let digests = if compressed { Digests::Streamed } else { Digests::Listed };
    wire::write(&Message { digests, body: Body::SynAck { digest, delta } })
}

/// Requests' heads, as browsers, other proxies and old clients write them.
pub fn request_heads() -> Vec<Vec<u8>> {
    [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a.b:80/x?y HTTP/1.1\r\nHost: a.b:80\r\nAccept: */*\r\nCookie: a=b; c=d\r\n\r\n",
        "POST /messages HTTP/1.1\r\nhost: [::1]\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: te\r\n\r\n",
        "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.0\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nX-Request-Id: a-1\r\n\r\n",
        "\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\nForwarded: for=1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
        "PUT /x HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 7\r\nContent-Length: 0\r\n\r\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// Answers' heads, each behind the byte that picks the request's method.
pub fn response_heads() -> Vec<Vec<u8>> {
    [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x\r\nConnection: close, x-hop\r\nX-Hop: 1\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\nSkep-Unprocessed: 1\r\nRetry-After: 1\r\n\r\n",
        "HTTP/1.0 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
    ]
    .iter()
    .enumerate()
    .map(|(i, text)| behind(i as u8, text.as_bytes()))
    .collect()
}

/// Chunked bodies, with what may follow them.
pub fn chunked_bodies() -> Vec<Vec<u8>> {
    ["0\r\n\r\n", "5;a=\"b\"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\nZ: \r\n\r\nGET /", "1\r\na\r\n"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

/// Headers of the PROXY protocol, in both versions.
pub fn proxy_headers() -> Vec<Vec<u8>> {
    let v2 = |command: u8, family: u8, rest: &[u8]| {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([command, family, 0, rest.len() as u8]);
        header.extend(rest);
        header
    };
    vec![
        b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nGET /".to_vec(),
        b"PROXY TCP6 ::1 ::2 5 80\r\n".to_vec(),
        b"PROXY UNKNOWN whatever\r\n".to_vec(),
        v2(0x21, 0x11, &[192, 0, 2, 1, 192, 0, 2, 2, 0, 5, 0, 80, 4, 0, 1, 9]),
        v2(0x21, 0x21, &[1; 36]),
        v2(0x20, 0, &[]),
    ]
}

fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value).expect("a seed can be encoded")
}

fn behind(choice: u8, bytes: &[u8]) -> Vec<u8> {
    [&[choice], bytes].concat()
}

/// What keepalived 2.2.7 sends, from the IPv4 header on, and the message alone over IPv6.
pub fn vrrp_packets() -> Vec<Vec<u8>> {
    let packets = [
        "45c0002400010000ff70d03c0a4e000ce0000012313396020032377e0a4e00c80a4e00c9",
        "45c0002400080000ff70d0350a4e000ce0000012313300020032cd7e0a4e00c80a4e00c9",
        "45c0002800010000ff70d0380a4e000ce00000122135960100013daf0a4e00cb0000000000000000",
        "45c0002800010000ff70d0380a4e000ce0000012213696010101ff6a0a4e00cc736b657031323334",
        "3134960200321c1ffe800000000000000000000000000200fd780000000000000000000000000200",
    ];
    let byte = |hex: &str| u8::from_str_radix(hex, 16).expect("the seeds are hexadecimal");
    packets.iter().map(|hex| (0..hex.len()).step_by(2).map(|at| byte(&hex[at..at + 2])).collect()).collect()
}

/// Pages, each behind a line that is of its answer's head.
pub fn pages() -> Vec<Vec<u8>> {
    [
        &b"text/html; charset=utf-8\n<!doctype html><meta charset=koi8-r><base href=/x/><img src=a.png srcset='b.png \
          1x, c.png 2x'><style>a{background:url(d.png)}@import 'e'</style><svg><image xlink:href=f.svg></svg>"[..],
        b"<l.png>; rel=preload; as=image; imagesrcset=\"m.png 1x\"\n<meta http-equiv=refresh content='0;url=other'>\
          <noscript><img src=&quot;a&amp;b></noscript><input type=image src=//b\xfccher.example/\xfe?\xfe>",
        b"0; url=/next\n<meta property=og:image content=a><link rel='shortcut icon' href=b><video poster=c>\
          <p style=\"background:image-set('d' 1x, url(\\65 ) 2x)\"><img data-src=f data-bg='url(g)'><object type=image/x data=h>",
        b"\n\xff\xfe<\0i\0m\0g\0 \0s\0r\0c\0=\0a\0>\0",
        b"\n<script><!--<script></script><img src=a></script><textarea><img src=b></textarea><title></title><img src=c",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Files of `robots.txt`, each behind a path.
pub fn robots() -> Vec<Vec<u8>> {
    [
        &b"a/b?c=d\nuser-agent: *\ndisallow: /a*b$\nallow: /a/index.html # x\n"[..],
        b"x/\n\xef\xbb\xbfUser-Agent: a\r\nUser-agent: skep-worker/2\r\nDisallow /\r\nAllow: /x/%e3%83%84\r\n",
        b"\nuseragent:skep-worker\ndissallow:/\nCrawl-delay: 3\nuser-agent: * x\nallow:",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

/// Values of `srcset`, and of a refresh.
pub fn srcsets() -> Vec<Vec<u8>> {
    let texts = [
        "a.png 1x, b,c.png 2.5e0x , d 100w 5h,e (x, y), f,, g",
        "0; url = 'a b' c",
        "1.5.2 \tURL=\"x",
        ",,a ,",
    ];
    texts.map(|it| it.as_bytes().to_vec()).to_vec()
}

/// Bodies in each content coding, behind a byte that says which.
pub fn coded() -> Vec<Vec<u8>> {
    [
        &b"\x00\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xb3\xc9\xcc\x4d\x57\x28\x2e\x4a\xb6\x4d\xd4\x2b\xc8\x4b\xb7\xb3\x81\x71\x93\xc0\x5c\x00\x0d\xfa\x3c\xf3\x1e\x00\x00\x00"[..],
        b"\x01\x78\x9c\xb3\xc9\xcc\x4d\x57\x28\x2e\x4a\xb6\x4d\xd4\x2b\xc8\x4b\xb7\xb3\x81\x71\x93\xc0\x5c\x00\xa0\xfc\x0a\x62",
        b"\x01\xb3\xc9\xcc\x4d\x57\x28\x2e\x4a\xb6\x4d\xd4\x2b\xc8\x4b\xb7\xb3\x81\x71\x93\xc0\x5c\x00",
        b"\x02\x1b\x0e\x00\xf8\xa5\x7c\xc2\x4a\x11\x61\xaa\x91\x81\xbe\x54\x00",
        b"\x03\x28\xb5\x2f\xfd\x00\x58\xdd\x00\x00\xa8\x3c\x69\x6d\x67\x20\x73\x72\x63\x3d\x61\x2e\x70\x6e\x67\x3e\x62\x2e\x70\x6e\x67\x3e\x01\x00\x52\xcc\x3a",
        b"\x03\x50\x2a\x4d\x18\x02\x00\x00\x00\x78\x78\x28\xb5\x2f\xfd\x00\x58\xdd\x00\x00\xa8\x3c\x69\x6d\x67\x20\x73\x72\x63\x3d\x61\x2e\x70\x6e\x67\x3e\x62\x2e\x70\x6e\x67\x3e\x01\x00\x52\xcc\x3a",
        b"\x00\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xb3\xc9\xcc\x4d\x57\x28\x2e\x4a\xb6\x4d\xd4\x2b\xc8\x4b\xb7\xb3\x81\x71\x93\xc0\x5c\x00\x0d\xfa\x3c\xf3\x1e\x00\x00\x00\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xb3\xc9\xcc\x4d\x57\x28\x2e\x4a\xb6\x4d\xd4\x2b\xc8\x4b\xb7\xb3\x81\x71\x93\xc0\x5c\x00\x0d\xfa\x3c\xf3\x1e\x00\x00\x00",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}
