use std::fs;

use super::*;

fn full(node: NodeId) -> Identity {
    let promise = |ballot| Promise {
        ballot,
        proposer: NodeId(1),
        cluster: ClusterId(u128::MAX - u128::from(ballot)),
        members: vec![NodeId(1), NodeId(u64::MAX)],
    };
    Identity {
        node,
        cluster: Some(ClusterId(7)),
        planned: Some(vec![NodeId(1), NodeId(2)]),
        promise: Some(promise(3)),
        past: vec![promise(1), promise(2)],
        ballot: 3,
    }
}

#[test]
fn an_empty_folder_becomes_a_new_pristine_node() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a/b");
    let first = DataFolder::open(&data).unwrap().identity();
    assert_eq!(first, Identity::new(first.node));
    assert_eq!(DataFolder::open(&data).unwrap().identity(), first, "the same node after a restart");
    let other = DataFolder::open(&dir.path().join("c")).unwrap().identity();
    assert_ne!(other.node, first.node);
}

#[test]
fn a_change_is_there_after_a_restart_and_leaves_no_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    let want = full(folder.identity().node);
    folder.change(|identity| *identity = want.clone()).unwrap();
    drop(folder);
    fs::create_dir(dir.path().join(LOG_DIR)).unwrap();
    fs::write(dir.path().join(LOG_DIR).join("1"), "").unwrap();
    assert_eq!(DataFolder::open(dir.path()).unwrap().identity(), want);
    assert!(!dir.path().join("identity.json.tmp").exists());
}

#[test]
fn a_crash_before_the_rename_leaves_the_old_identity() {
    let dir = tempfile::tempdir().unwrap();
    let before = DataFolder::open(dir.path()).unwrap().identity();
    fs::write(dir.path().join("identity.json.tmp"), "{\"format\":1,").unwrap();
    assert_eq!(DataFolder::open(dir.path()).unwrap().identity(), before);
}

#[test]
fn a_folder_in_use_is_refused_and_the_holder_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    let error = DataFolder::open(dir.path()).unwrap_err();
    assert!(matches!(error, IdentityError::Locked { .. }), "{error}");
    assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
    drop(folder);
    DataFolder::open(dir.path()).unwrap();
}

#[test]
fn a_change_that_cannot_be_written_did_not_happen() {
    let dir = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    let before = folder.identity();
    // A folder in the temporary file's place fails for root too, whom permissions do not bind.
    fs::create_dir(dir.path().join("identity.json.tmp")).unwrap();
    assert!(folder.change(|identity| identity.ballot = 9).is_err());
    assert_eq!(folder.identity(), before);
    fs::remove_dir(dir.path().join("identity.json.tmp")).unwrap();
    folder.change(|identity| identity.ballot = 9).unwrap();
    assert_eq!(folder.identity().ballot, 9);
}

#[test]
fn what_is_no_identity_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(IDENTITY_FILE);
    let ids = "\"cluster_id\":null";
    for text in
        ["", "{}", "[]", "{\"format\":1}", "{\"format\":1,\"node_id\":\"12\",\"cluster_id\":null}", ids]
    {
        fs::write(&path, text).unwrap();
        let error = DataFolder::open(dir.path()).unwrap_err();
        assert!(matches!(error, IdentityError::Unreadable { .. }), "{text}: {error}");
        assert!(error.to_string().contains("identity.json"), "{error}");
    }
    fs::write(&path, "{\"format\":2,\"anything\":1}").unwrap();
    let error = DataFolder::open(dir.path()).unwrap_err();
    assert!(matches!(error, IdentityError::TooNew { format: 2, .. }), "{error}");
}

#[test]
fn a_log_without_its_identity_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(LOG_DIR)).unwrap();
    fs::write(dir.path().join(LOG_DIR).join("1"), "").unwrap();
    let error = DataFolder::open(dir.path()).unwrap_err();
    assert!(matches!(error, IdentityError::LogWithoutIdentity { .. }), "{error}");
    assert!(!dir.path().join(IDENTITY_FILE).exists(), "and gets no new one");
}

#[test]
fn a_member_whose_log_is_gone_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let folder = DataFolder::open(dir.path()).unwrap();
    folder.change(|identity| identity.cluster = Some(ClusterId(7))).unwrap();
    drop(folder);
    let error = DataFolder::open(dir.path()).unwrap_err();
    assert!(matches!(error, IdentityError::IdentityWithoutLog { .. }), "{error}");
}
