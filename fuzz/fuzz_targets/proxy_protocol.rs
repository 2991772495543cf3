//! Headers of the PROXY protocol, from whoever passes for a trusted proxy.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_balancer::listen::proxy_protocol::parse;
use skep_fuzz::bounded::bounded;
use skep_fuzz::seeds;

fuzz_target!(init: seeds::write(seeds::proxy_headers), |bytes: &[u8]| {
    match bounded(bytes.len(), || parse(bytes)) {
        Ok(Some(header)) => {
            assert!(header.len <= bytes.len());
            assert_eq!(parse(&bytes[..header.len]), Ok(Some(header)), "what follows it does not matter");
            for end in 0..header.len {
                assert_eq!(parse(&bytes[..end]), Ok(None), "it is not whole before its end");
            }
        }
        Ok(None) => assert!(bytes.len() < 16 + 4096, "nothing is waited for without end"),
        Err(_) => {}
    }
});
