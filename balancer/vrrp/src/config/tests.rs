//! What the command line, the environment and a file come to, and what is refused.

use std::collections::HashMap;

use super::*;

const KEY: &str = "skep1:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<AgentConfig, ConfigError> {
    let env: HashMap<String, OsString> =
        env.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    parse(["skep-balancer", "vrrp"].iter().chain(args), |name| env.get(name).cloned())
}

fn alone(args: &[&str], env: &[(&str, &str)]) -> AgentConfig {
    run(args, env).unwrap()
}

fn refusal(args: &[&str]) -> String {
    let error = run(args, &[]).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    error.to_string()
}

#[test]
fn one_address_takes_an_interface_and_the_defaults_are_those_that_are_told() {
    let config = alone(&["--vip", "10.0.0.100", "--vrrp-interface", "eth0"], &[]);
    let [router] = &config.vrrp.routers[..] else { panic!("{config:?}") };
    assert_eq!((router.vrid, router.priority, router.interval), (51, 200, Duration::from_millis(100)));
    assert_eq!((router.preempt, router.version, router.vmac), (false, Version::V3, false));
    assert_eq!((config.vrrp.handover, config.vrrp.mesh_port), (Handover::Conntrack, None));
    assert_eq!(router.addresses[0].prefix, 32);
    assert_eq!(config.admin, "127.0.0.1:9402".parse().unwrap());
}

#[test]
fn the_environment_says_as_much_as_the_flags() {
    let env = [
        ("SKEP_VIP", "10.0.0.100/24"),
        ("SKEP_VRRP_INTERFACE", "eth1"),
        ("SKEP_VRID", "7"),
        ("SKEP_PRIORITY", "100"),
        ("SKEP_ADVERT_INTERVAL", "1s"),
        ("SKEP_VRRP_PEERS", "10.0.0.2,10.0.0.3"),
        ("SKEP_TRACK", "http://127.0.0.1:8000/-/ready, tcp://127.0.0.1:443 weight=20"),
    ];
    let config = alone(&[], &env).vrrp;
    let router = &config.routers[0];
    assert_eq!((router.vrid, router.priority, router.interval), (7, 100, Duration::from_secs(1)));
    assert_eq!((router.peers.len(), config.tracks.len()), (2, 2));
}

#[test]
fn groups_are_virtual_routers_one_for_each_family() {
    let vip = "10.0.0.1/24,fd00::1/64,fe80::1/64 vrid=5; 10.0.0.2/24 vrid=6 priority=150 interface=eth1";
    let config = alone(&["--vip", vip, "--vrrp-interface", "eth0"], &[]).vrrp;
    let told: Vec<String> = config
        .routers
        .iter()
        .map(|it| format!("{} {} {} {}", it.vrid, it.priority, it.interface, it.addresses[0]))
        .collect();
    assert_eq!(told, ["5 200 eth0 10.0.0.1/24", "5 200 eth0 fe80::1/64", "6 150 eth1 10.0.0.2/24"]);
}

#[test]
fn what_cannot_be_is_refused_naming_its_flag() {
    let vip = ["--vip=10.0.0.1/24", "--vrrp-interface=eth0"];
    for (args, flag, part) in [
        (vec!["--vip=10.0.0.1/33"], "--vip", "prefix length"),
        (vec!["--vip=10.0.0.1/24"], "--vrrp-interface", "eth0"),
        (vec!["--vip=127.0.0.1/8"], "--vip", "host"),
        (vec!["--vip=10.0.0.1,10.0.0.1"], "--vip", "twice"),
        (vec!["--vip=10.0.0.1;10.0.0.2", vip[1]], "--vip", "VRID 51"),
        (vec!["--vip=10.0.0.1 speed=5"], "--vip", "speed="),
        (vec![vip[0], vip[1], "--vrid=256"], "--vrid", "255"),
        (vec![vip[0], vip[1], "--priority=0"], "--priority", "1"),
        (vec![vip[0], vip[1], "--advert-interval=15ms"], "--advert-interval", "10ms"),
        (vec![vip[0], vip[1], "--advert-interval=41s"], "--advert-interval", "10ms"),
        (vec![vip[0], vip[1], "--vrrp-version=2", "--advert-interval=100ms"], "--advert-interval", "seconds"),
        (vec!["--vip=fd00::1", vip[1], "--vrrp-version=2"], "--vrrp-version", "IPv4"),
        (vec!["--vip=fd00::1", vip[1], "--vmac=true"], "--vmac", "IPv4"),
        (vec![vip[0], vip[1], "--vrrp-peers=fd00::2"], "--vrrp-peers", "family"),
        (vec!["--vip=10.0.0.1,fd00::1", vip[1], "--vrrp-peers=10.0.0.2"], "--vrrp-peers", "fd00::1"),
        (
            vec![vip[0], vip[1], "--vrrp-peers=10.0.0.2", "--vrrp-peers-proven"],
            "--vrrp-peers-proven",
            "a key",
        ),
        (vec![vip[0], vip[1], "--track=ftp://x"], "--track", "http://"),
        (vec![vip[0], vip[1], "--vrrp-mesh=7402"], "--vrrp-mesh", "keygen"),
        (vec![vip[0], vip[1], "--vrrp-handover=x"], "--vrrp-handover", "conntrack"),
        (vec!["--vrid=5"], "--vrid", "--vip"),
    ] {
        let error = refusal(&args);
        assert!(error.starts_with(flag) && error.contains(part), "{args:?}: {error}");
    }
    assert!(refusal(&[]).contains("--vip"));
}

#[test]
fn peers_are_named_once_and_so_many_at_most_where_the_mesh_watches_them() {
    let many: Vec<String> = (1..=PEERS_MAX + 1).map(|it| format!("10.0.0.{it}")).collect();
    for (peers, part) in [("10.0.0.2,10.0.0.3,10.0.0.2", "10.0.0.2 stands"), (&many.join(","), "at most")] {
        let given = ["--vip=10.0.1.1/24", "--vrrp-interface=eth0", "--vrrp-peers", peers];
        let key = [("SKEP_CLUSTER_KEY", KEY)];
        let error = run(&given, &key).unwrap_err().to_string();
        assert!(error.starts_with("--vrrp-peers") && error.contains(part), "{error}");
        assert!(run(&given, &[]).is_ok() && run(&[&given[..], &["--vrrp-mesh=off"]].concat(), &key).is_ok());
        let nobody = [&given[..2], &["--vrrp-peers-proven"]].concat();
        assert!(run(&nobody, &key).unwrap_err().to_string().contains("--vrrp-peers,"));
    }
}
