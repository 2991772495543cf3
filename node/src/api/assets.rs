//! The page and the API's documentation, compiled into the program.
//!
//! The page is `node/assets/page`: no build step, no script from elsewhere. Swagger UI is
//! `node/assets/docs`, as it was published, compressed.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum::routing::get;
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderValue,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, StatusCode};
use skep_state::message::Digest;

use crate::http::conditions::{self, Condition};
use crate::http::headers::insert;
use crate::http::problem::{Problem, ProblemKind};

/// Nothing but our own scripts and styles, and no markup made of text: whatever a message says, it
/// stays text.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";
/// Swagger UI styles its elements itself.
const DOCS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file in the program.
struct Asset {
    path: &'static str,
    content_type: &'static str,
    bytes: &'static [u8],
    /// Compressed with gzip.
    is_gzip: bool,
    policy: &'static str,
}

macro_rules! assets {
    ($($path:literal = $file:literal, $content_type:literal, $policy:ident $(, $gzip:ident)?;)*) => {
        const ASSETS: &[Asset] = &[$(Asset {
            path: $path,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../assets/", $file)),
            is_gzip: assets!(@gzip $($gzip)?),
            policy: $policy,
        }),*];
    };
    (@gzip gzip) => { true };
    (@gzip) => { false };
}

assets! {
    "/" = "page/index.html", "text/html; charset=utf-8", PAGE_POLICY;
    "/assets/skep.svg" = "page/skep.svg", "image/svg+xml", PAGE_POLICY;
    "/assets/page.css" = "page/page.css", "text/css; charset=utf-8", PAGE_POLICY;
    "/assets/page.js" = "page/page.js", "text/javascript; charset=utf-8", PAGE_POLICY;
    "/assets/dom.js" = "page/dom.js", "text/javascript; charset=utf-8", PAGE_POLICY;
    "/assets/feed.js" = "page/feed.js", "text/javascript; charset=utf-8", PAGE_POLICY;
    "/assets/messages.js" = "page/messages.js", "text/javascript; charset=utf-8", PAGE_POLICY;
    "/assets/cluster.js" = "page/cluster.js", "text/javascript; charset=utf-8", PAGE_POLICY;
    "/assets/stored.js" = "page/stored.js", "text/javascript; charset=utf-8", PAGE_POLICY;
    "/assets/queues.html" = "page/queues.html", "text/html; charset=utf-8", PAGE_POLICY;
    "/assets/queues.css" = "page/queues.css", "text/css; charset=utf-8", PAGE_POLICY;
    "/assets/queues.js" = "page/queues.js", "text/javascript; charset=utf-8", PAGE_POLICY;
    "/assets/gateway.html" = "page/gateway.html", "text/html; charset=utf-8", PAGE_POLICY;
    "/assets/gateway.css" = "page/gateway.css", "text/css; charset=utf-8", PAGE_POLICY;
    "/assets/gateway.js" = "page/gateway.js", "text/javascript; charset=utf-8", PAGE_POLICY;
    "/assets/rates.js" = "page/rates.js", "text/javascript; charset=utf-8", PAGE_POLICY;
    "/docs" = "docs/index.html", "text/html; charset=utf-8", DOCS_POLICY;
    "/assets/docs.js" = "docs/docs.js", "text/javascript; charset=utf-8", DOCS_POLICY;
    "/assets/swagger-ui.css" = "docs/swagger-ui.css.gz", "text/css; charset=utf-8", DOCS_POLICY, gzip;
    "/assets/swagger-ui.js" = "docs/swagger-ui-bundle.js.gz", "text/javascript; charset=utf-8", DOCS_POLICY, gzip;
}

/// The page of the queues, at the path where programs get them as JSON.
pub(crate) fn queues_page(headers: &HeaderMap) -> Result<Response, Problem> {
    page("/assets/queues.html", headers)
}

/// The page of the gateway, at the path where programs get its document as JSON.
pub(crate) fn gateway_page(headers: &HeaderMap) -> Result<Response, Problem> {
    page("/assets/gateway.html", headers)
}

fn page(path: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let page = ASSETS.iter().find(|asset| asset.path == path);
    let page = page.ok_or_else(|| Problem::not_found(path))?;
    let mut response = answer(page, &etag_of(page), headers)?;
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

fn etag_of(asset: &Asset) -> String {
    format!("\"{}\"", &Digest::of(asset.bytes).to_string()[..16])
}

/// What the page of the gateway loads beside files of its own.
const SHARED: [&str; 4] = ["/assets/skep.svg", "/assets/page.css", "/assets/dom.js", "/assets/rates.js"];

fn is_of_gateway(asset: &Asset) -> bool {
    asset.path.starts_with("/assets/gateway.")
}

/// A route for each file of the public address.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    routes_to(|asset| !is_of_gateway(asset))
}

/// Of the admin address, where the gateway's page is.
pub(crate) fn admin_routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    routes_to(|asset| is_of_gateway(asset) || SHARED.contains(&asset.path))
}

fn routes_to<S: Clone + Send + Sync + 'static>(of: impl Fn(&Asset) -> bool) -> Router<S> {
    let mut router = Router::new();
    for asset in ASSETS.iter().filter(|asset| of(asset)) {
        let etag = etag_of(asset);
        router = router.route(
            asset.path,
            get(move |request: Request| std::future::ready(answer(asset, &etag, request.headers()))),
        );
    }
    router
}

fn answer(asset: &'static Asset, etag: &str, asked: &HeaderMap) -> Result<Response, Problem> {
    if asset.is_gzip && !conditions::takes_coding(asked, "gzip") {
        return Err(Problem::new(ProblemKind::NotAcceptable, "this file is there with gzip alone"));
    }
    let is_known = conditions::evaluate(asked, etag)? == Condition::NotModified;
    let mut response =
        Response::new(if is_known { Body::empty() } else { Body::from(Bytes::from_static(asset.bytes)) });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asset.content_type));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(asset.policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // After an upgrade the next load has the new page.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    insert(headers, ETAG, etag.to_owned());
    if asset.is_gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a browser loads for a page: the file, and all that it and these name.
    const PAGE_BYTES_MAX: usize = 60 * 1000;

    /// The paths that a file names.
    fn named(asset: &Asset) -> Vec<String> {
        let parts = std::str::from_utf8(asset.bytes).unwrap().split('"');
        let path = |part: &str| match part.strip_prefix("./") {
            Some(file) => file.ends_with(".js").then(|| format!("/assets/{file}")),
            None => part.starts_with("/assets/").then(|| part.to_owned()),
        };
        parts.filter_map(path).collect()
    }

    #[test]
    fn each_page_is_light_and_all_that_its_files_name_is_there() {
        let of_page = || ASSETS.iter().filter(|asset| asset.policy == PAGE_POLICY);
        let find = |path: &str| of_page().find(|asset| asset.path == path);
        let pages = of_page().filter(|asset| asset.content_type.starts_with("text/html"));
        let mut loaded = BTreeSet::new();
        for page in pages {
            let (mut of_this, mut left) = (BTreeSet::from([page.path]), vec![page]);
            while let Some(asset) = left.pop() {
                for path in named(asset) {
                    let other = find(&path).unwrap_or_else(|| panic!("{path}, which {} names", asset.path));
                    if of_this.insert(other.path) {
                        left.push(other);
                    }
                }
            }
            let bytes: usize = of_this.iter().filter_map(|path| find(path)).map(|it| it.bytes.len()).sum();
            assert!(bytes < PAGE_BYTES_MAX, "{}: {bytes}", page.path);
            loaded.append(&mut of_this);
        }
        assert_eq!(loaded.len(), of_page().count(), "each file is of a page");
    }
}
