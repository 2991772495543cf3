//! The API's document: OpenAPI 3.1, made from the handlers' own annotations.
//!
//! `docs/openapi.json` is the same, kept for readers and for tools; a test holds it against this.

use std::sync::LazyLock;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use utoipa::openapi::path::{Operation, Parameter};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::{export, members};
use crate::http::headers::JSON;
use crate::kinds;
use crate::kinds::schema;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "skep",
        description = "Messages that a quorum has on disk before they are acknowledged, on any node of the cluster.\n\n\
            NDJSON is one JSON object a line, each of the shape `Item` (of `Message` in `GET /messages`): a client \
            that knows no such type reads the body as text. Where JSON and NDJSON are offered, JSON is what comes \
            unless `Accept` prefers the other. `openapi-python-client` knows neither NDJSON nor a body that is \
            `text/plain`: it takes the one with `content_type_overrides: {application/x-ndjson: text/plain}` in its \
            configuration, and sends the other as `application/octet-stream`, which means the same here."
    ),
    servers(
        (url = "/", description = "Where this document came from: a node, or a balancer before all of them"),
        (url = "http://127.0.0.1:8000", description = "A balancer's own default"),
        (url = "http://127.0.0.1:8080", description = "A node's own default"),
    ),
    paths(members::get, export::check, export::get),
    components(schemas(schema::ProblemDocument)),
    tags(
        (name = "cluster", description = "Who serves"),
        (name = "operators", description = "With the operators' token"),
    ),
)]
struct Document;

/// What all operations have in common: any of them may fail with a problem.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        if let Some(components) = &mut document.components {
            let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
            for who in ["operator", "worker"] {
                let scheme = RefOr::T(SecurityScheme::Http(scheme.clone()));
                components.security_schemes.insert(who.into(), scheme);
            }
        }
        for item in document.paths.paths.values_mut() {
            let operations = [&mut item.get, &mut item.post, &mut item.put, &mut item.head, &mut item.delete];
            for operation in operations.into_iter().flatten() {
                add_problem(operation);
                operation.parameters.iter_mut().flatten().for_each(forbid_null);
            }
        }
    }
}

fn add_problem(operation: &mut Operation) {
    let schema = Ref::from_schema_name("Problem");
    let problem = ResponseBuilder::new()
        .description("A problem; 503 has `Retry-After`, and `Skep-Unprocessed` where nothing was done")
        .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build())
        .build();
    operation.responses.responses.insert("default".into(), RefOr::T(problem));
}

/// A parameter that may be absent has no null for it.
fn forbid_null(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(parameter) = parameter
        && let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
        && let SchemaType::Array(types) = &mut object.schema_type
    {
        types.retain(|kind| *kind != Type::Null);
        if let [only] = types.as_slice() {
            object.schema_type = SchemaType::Type(only.clone());
        }
    }
}

/// The document as JSON.
pub fn document() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        // Plain data: this cannot fail, and a test looks at it.
        let mut document = Document::openapi();
        let own = document.tags.as_ref().map_or(0, Vec::len);
        kinds::document(&mut document);
        // What is stored comes first.
        document.tags.iter_mut().for_each(|tags| tags.rotate_left(own));
        Common.modify(&mut document);
        let mut text = document.to_pretty_json().unwrap_or_default();
        text.push('\n');
        text
    });
    &TEXT
}

/// `GET /openapi.json`.
pub(crate) async fn get() -> Response {
    let mut response = Response::new(Body::from(Bytes::from_static(document().as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_in_the_repository_is_that_of_the_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        if std::env::var_os("SKEP_UPDATE_DOCS").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == document(), "docs/openapi.json is old: run this test with SKEP_UPDATE_DOCS=1");
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let document: serde_json::Value = serde_json::from_str(document()).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut names = std::collections::HashSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation}");
            }
        }
        assert_eq!(names.len(), 42);
    }

    #[test]
    fn the_first_server_is_the_one_that_the_document_came_from() {
        let document: serde_json::Value = serde_json::from_str(document()).unwrap();
        assert_eq!(document["servers"][0]["url"], "/");
    }
}
