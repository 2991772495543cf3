//! What a request's head must be before anybody looks at what it asks for. hyper reads the syntax; what is
//! refused here is well formed and means two things, or nothing. Pure.

use http::header::{HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Request, Uri, Version};

use super::problem::{Problem, ProblemKind};

/// Refuses what has no meaning, and brings the path into its usual form.
pub(crate) fn settle<B>(request: &mut Request<B>) -> Result<(), Problem> {
    require_host(request)?;
    require_codings(request.headers())?;
    if let Some(uri) = with_usual_path(request.uri()) {
        *request.uri_mut() = uri;
    }
    Ok(())
}

/// One `Host`, which is one, and that of the target where the target names one (RFC 9112, 3.2). It may be
/// empty, as the balancer sends it for a client of HTTP/1.0, which may go without.
fn require_host<B>(request: &Request<B>) -> Result<(), Problem> {
    let malformed = |detail: &'static str| Problem::new(ProblemKind::MalformedRequest, detail);
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => host,
        (Some(_), Some(_)) => return Err(malformed("the request has more than one Host")),
        (None, _) if request.version() < Version::HTTP_11 => return Ok(()),
        (None, _) => return Err(malformed("the request has no Host")),
    };
    let target = request.uri().authority();
    if host.is_empty() && target.is_none() {
        return Ok(());
    }
    if target.is_some_and(|target| !target.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())) {
        return Err(malformed("Host is not that of the request's target"));
    }
    let is_one = host.to_str().is_ok_and(|host| {
        !host.contains(['@', ','])
            && host.parse::<Authority>().is_ok_and(|authority| {
                // A port that is empty is none; one that is no number is no port.
                let rest = &host[authority.host().len()..];
                !authority.host().is_empty() && (matches!(rest, "" | ":") || authority.port_u16().is_some())
            })
    });
    if is_one { Ok(()) } else { Err(malformed("Host is no host with, perhaps, a port")) }
}

/// `chunked` alone is understood (RFC 9112, 6.1). What is under another coding would be stored as it came.
fn require_codings(headers: &HeaderMap) -> Result<(), Problem> {
    let lines = headers.get_all(TRANSFER_ENCODING).iter();
    let mut codings = 0;
    for coding in lines.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let coding = coding.trim_ascii();
        codings += usize::from(!coding.is_empty());
        if codings > 1 || !coding.is_empty() && !coding.eq_ignore_ascii_case(b"chunked") {
            let detail = "of the transfer codings, chunked alone is understood, and that once";
            return Err(Problem::new(ProblemKind::UnsupportedTransferCoding, detail));
        }
    }
    Ok(())
}

/// The same with each unreserved character as itself (RFC 9110, 4.2.3); none where it is so already.
fn with_usual_path(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains('%') {
        return None;
    }
    let mut usual = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        usual.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match code.map(char::from) {
            Some(letter) if letter.is_ascii_alphanumeric() || "-._~".contains(letter) => usual.push(letter),
            _ => {
                usual.push('%');
                rest = &rest[at + 1..];
                continue;
            }
        }
        rest = &rest[at + 3..];
    }
    usual.push_str(rest);
    if usual == path {
        return None;
    }
    if let Some(query) = uri.query() {
        usual.push('?');
        usual.push_str(query);
    }
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(usual).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn refused(version: Version, fields: &[(&'static str, &'static str)]) -> Option<u16> {
        let mut request = Request::new(());
        *request.version_mut() = version;
        for (name, value) in fields {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        settle(&mut request).err().map(|problem| problem.kind.status().as_u16())
    }

    #[test]
    fn a_request_names_one_host() {
        for host in
            ["a", "a:80", "a:", "a.example:8080", "127.0.0.1:1", "[::1]", "[::1]:8080", "a_b", "tasks.node"]
        {
            assert_eq!(refused(Version::HTTP_11, &[("host", host)]), None, "{host}");
        }
        for host in ["a b", "a/b", "a:b", "u@a", "a:99999", "http://a", "[::1", ":80", "a,b"] {
            assert_eq!(refused(Version::HTTP_11, &[("host", host)]), Some(400), "{host}");
        }
        assert_eq!(refused(Version::HTTP_11, &[]), Some(400));
        assert_eq!(refused(Version::HTTP_11, &[("host", "a"), ("host", "a")]), Some(400));
        assert_eq!(refused(Version::HTTP_10, &[]), None);
        assert_eq!(refused(Version::HTTP_10, &[("host", "a"), ("host", "b")]), Some(400));
        assert_eq!(refused(Version::HTTP_11, &[("host", "")]), None, "the balancer's, of who named none");
    }

    #[test]
    fn a_target_that_names_a_host_names_that_of_the_field() {
        for (host, fits) in [("a.example:8080", true), ("A.example:8080", true), ("b", false), ("", false)] {
            let mut request = Request::new(());
            *request.uri_mut() = "http://a.example:8080/read".parse().unwrap();
            request.headers_mut().insert(HOST, HeaderValue::from_static(host));
            assert_eq!(settle(&mut request).is_ok(), fits, "{host}");
        }
    }

    #[test]
    fn chunked_is_the_one_coding() {
        for (coding, status) in [
            ("chunked", None),
            ("Chunked", None),
            ("gzip, chunked", Some(501)),
            ("foo,chunked", Some(501)),
            ("identity", Some(501)),
            ("chunked;q=1", Some(501)),
            ("chunked, chunked", Some(501)),
        ] {
            assert_eq!(
                refused(Version::HTTP_11, &[("host", "a"), ("transfer-encoding", coding)]),
                status,
                "{coding}"
            );
        }
        let two = [("host", "a"), ("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")];
        assert_eq!(refused(Version::HTTP_11, &two), Some(501));
    }

    #[test]
    fn unreserved_characters_mean_the_same_however_they_are_written() {
        for (path, usual) in [
            ("/messages", "/messages"),
            ("/%6Dessages?a=%6D", "/messages?a=%6D"),
            ("/%6d%65ssages/%7E%2d", "/messages/~-"),
            ("/a%2Fb%20c", "/a%2Fb%20c"),
            ("/%256D", "/%256D"),
            ("/%", "/%"),
            ("/%6", "/%6"),
            ("/%zz%61", "/%zza"),
        ] {
            let mut request = Request::new(());
            request.headers_mut().insert(HOST, HeaderValue::from_static("a"));
            *request.uri_mut() = path.parse().unwrap();
            settle(&mut request).unwrap();
            assert_eq!(request.uri().to_string(), usual);
        }
    }
}
