//! `/apis` and the plugins of each: read as Kong 0.4 reads them, and what routes and services they come to. Pure.

use http::Method;
use serde_json::{Map, Value, json};
use skep_gateway::document::{SKEP, Target};
use skep_gateway::host::HostPattern;

use super::answer::{Answer, Errors};
use super::asked::{Asked, Done};
use super::body::Params;
use super::entities::{Api, Derived, Document, KnownApi, Plugin, names_of_routes, shown};
use super::fields::Fields;
use super::plugins;

const FIELDS: [&str; 5] = ["id", "name", "public_dns", "path", "target_url"];
const FIELDS_OF_PLUGINS: [&str; 4] = ["id", "name", "api_id", "consumer_id"];
const NEITHER: &str = "At least a 'public_dns' or a 'path' must be specified";

/// `/apis/`.
pub fn all(asked: &Asked, document: &mut Document) -> Result<Done, Answer> {
    let apis = document.apis();
    if asked.method == Method::GET {
        return asked.list(apis.iter().map(|it| shown(&it.api)).collect(), &FIELDS);
    }
    let replaced = asked.params.get("id").and_then(|id| apis.iter().find(|it| *id == it.api.id));
    match (&asked.method, replaced) {
        (&Method::PUT, Some(known)) => replace(asked, document, known, &apis),
        (&Method::PUT | &Method::POST, _) => create(asked, document, &apis),
        _ => Err(Answer::method_not_allowed()),
    }
}

fn create(asked: &Asked, document: &mut Document, apis: &[KnownApi]) -> Result<Done, Answer> {
    // It was put, and the answer was lost.
    if let Some(known) = apis.iter().find(|it| it.api.id == asked.new.id) {
        return Done::read(Answer::created(shown(&known.api)));
    }
    let api = read(asked.given(), &asked.new_id()?, asked.new.created_at)?;
    check_unique(&api, apis)?;
    let object = document.name_of_api(&api);
    let service = service_of(&api, &object, asked)?;
    let known = KnownApi { api, plugins: Vec::new(), object, service };
    let derived = derive(&known);
    // Its name may be of an id that the client says.
    document.is_free(&Derived { routes: Vec::new(), service: None }, &derived)?;
    document.put_api(&known, derived);
    Done::changed(Answer::created(shown(&known.api)))
}

/// `/apis/{name or id}`.
pub fn one(asked: &Asked, document: &mut Document, given: &str) -> Result<Done, Answer> {
    let apis = document.apis();
    let known = find(asked, &apis, given)?;
    match asked.method {
        Method::GET => Done::read(Answer::ok(shown(&known.api))),
        Method::PUT => replace(asked, document, known, &apis),
        Method::PATCH => {
            asked.check_made(&known.api.id, known.api.created_at)?;
            let fields = asked.over(shown(&known.api), &["id", "created_at"]);
            update(asked, document, known, fields, &apis)
        }
        Method::DELETE => {
            document.are_own(known)?;
            document.remove_api(known);
            Done::changed(Answer::no_content())
        }
        _ => Err(Answer::method_not_allowed()),
    }
}

fn find<'a>(asked: &Asked, apis: &'a [KnownApi], given: &str) -> Result<&'a KnownApi, Answer> {
    let is_it = |it: &&KnownApi| asked.is_meant(given, &it.api.id, it.api.name.as_deref());
    apis.iter().find(is_it).ok_or_else(Answer::not_found)
}

fn replace(
    asked: &Asked,
    document: &mut Document,
    known: &KnownApi,
    apis: &[KnownApi],
) -> Result<Done, Answer> {
    asked.check_made(&known.api.id, known.api.created_at)?;
    update(asked, document, known, asked.given(), apis)
}

fn update(
    asked: &Asked,
    document: &mut Document,
    known: &KnownApi,
    fields: Params,
    apis: &[KnownApi],
) -> Result<Done, Answer> {
    let api = read(fields, &known.api.id, known.api.created_at)?;
    check_unique(&api, apis)?;
    // An alias that was told since is none of what is there.
    let service = match api.target_url == known.api.target_url {
        true => known.service.clone(),
        false => service_of(&api, &known.object, asked)?,
    };
    let next = KnownApi { api, service, ..known.clone() };
    let (before, derived) = (derive(known), derive(&next));
    document.is_as_derived(known, &before)?;
    document.is_free(&before, &derived)?;
    document.remove_api(known);
    document.put_api(&next, derived);
    Done::changed(Answer::ok(shown(&next.api)))
}

/// `/apis/{name or id}/plugins/`.
pub fn plugins(asked: &Asked, document: &mut Document, given: &str) -> Result<Done, Answer> {
    let apis = document.apis();
    let known = find(asked, &apis, given)?;
    if asked.method == Method::GET {
        let all = known.plugins.iter().map(|it| it.shown(&known.api)).collect();
        return asked.list(all, &FIELDS_OF_PLUGINS);
    }
    let replaced = asked.params.get("id").and_then(|id| known.plugins.iter().find(|it| *id == it.id));
    match (&asked.method, replaced) {
        (&Method::PUT, Some(plugin)) => set_plugin(asked, document, known, plugin, asked.given()),
        (&Method::PUT | &Method::POST, _) => add_plugin(asked, document, known),
        _ => Err(Answer::method_not_allowed()),
    }
}

fn add_plugin(asked: &Asked, document: &mut Document, known: &KnownApi) -> Result<Done, Answer> {
    if let Some(plugin) = known.plugins.iter().find(|it| it.id == asked.new.id) {
        return Done::read(Answer::created(plugin.shown(&known.api)));
    }
    let plugin = read_plugin(asked.given(), &known.api, &asked.new_id()?, asked.new.created_at)?;
    if known.plugins.iter().any(|it| it.name == plugin.name) {
        return Err(Answer::message(409, "Plugin configuration already exists"));
    }
    let answer = Answer::created(plugin.shown(&known.api));
    let plugins = known.plugins.iter().cloned().chain([plugin]).collect();
    change_plugins(document, known, plugins)?;
    Done::changed(answer)
}

fn set_plugin(
    asked: &Asked,
    document: &mut Document,
    known: &KnownApi,
    plugin: &Plugin,
    fields: Params,
) -> Result<Done, Answer> {
    asked.check_made(&plugin.id, plugin.created_at)?;
    let next = read_plugin(fields, &known.api, &plugin.id, plugin.created_at)?;
    if next.name != plugin.name {
        return Err(Answer::field(400, "name", "name cannot be updated"));
    }
    let answer = Answer::ok(next.shown(&known.api));
    let with = |it: &Plugin| if it.id == next.id { next.clone() } else { it.clone() };
    change_plugins(document, known, known.plugins.iter().map(with).collect())?;
    Done::changed(answer)
}

fn change_plugins(document: &mut Document, known: &KnownApi, plugins: Vec<Plugin>) -> Result<(), Answer> {
    plugins::check_together(&plugins)?;
    let next = KnownApi { plugins, ..known.clone() };
    document.is_as_derived(known, &derive(known))?;
    document.put_api(&next, derive(&next));
    Ok(())
}

/// `/apis/{name or id}/plugins/{name or id}`.
pub fn plugin(asked: &Asked, document: &mut Document, given: &str, plugin: &str) -> Result<Done, Answer> {
    let apis = document.apis();
    let known = find(asked, &apis, given)?;
    // By the later name, too.
    let name = plugins::name(plugin).unwrap_or(plugin);
    let is_it = |it: &&Plugin| asked.is_meant(name, &it.id, Some(&it.name));
    let plugin = known.plugins.iter().find(is_it).ok_or_else(Answer::not_found)?;
    match asked.method {
        Method::GET => Done::read(Answer::ok(plugin.shown(&known.api))),
        Method::PUT => set_plugin(asked, document, known, plugin, asked.given()),
        Method::PATCH => {
            let mut fields = asked.over(shown(plugin), &["id", "created_at"]);
            // Of its value, too, what is not given stays.
            let mut value = plugin.value.clone();
            let mut given = Fields::of("", asked.given());
            for name in ["value", "config"] {
                value.extend(given.object(name));
            }
            given.errors.none_or(400, ())?;
            fields.remove("config");
            fields.insert("value".to_owned(), value.into());
            set_plugin(asked, document, known, plugin, fields)
        }
        Method::DELETE => {
            let left = known.plugins.iter().filter(|it| it.id != plugin.id).cloned().collect();
            change_plugins(document, known, left)?;
            Done::changed(Answer::no_content())
        }
        _ => Err(Answer::method_not_allowed()),
    }
}

/// `/plugins_configurations/`.
pub fn every_plugin(asked: &Asked, document: &Document) -> Result<Done, Answer> {
    if asked.method != Method::GET {
        return Err(Answer::method_not_allowed());
    }
    let apis = document.apis();
    let shown = |known: &KnownApi| known.plugins.iter().map(|it| it.shown(&known.api)).collect::<Vec<_>>();
    asked.list(apis.iter().flat_map(shown).collect(), &FIELDS_OF_PLUGINS)
}

fn read_plugin(fields: Params, api: &Api, id: &str, created_at: u64) -> Result<Plugin, Answer> {
    let mut fields = Fields::of("", fields);
    let name = fields.text("name");
    if name.is_none() && !fields.errors.has("name") {
        fields.add("name", "name is required");
    }
    let mut value = fields.object("value");
    // As 0.5 calls it.
    value.extend(fields.object("config"));
    let enabled = fields.switch("enabled").unwrap_or(true);
    if fields.text("api_id").is_some_and(|it| it != api.id) {
        fields.add("api_id", "it is another API's than the path says");
    }
    if fields.text("consumer_id").is_some() {
        fields.add("consumer_id", "No consumer can be configured for that plugin: it is for all who ask");
    }
    fields.end().none_or(400, ())?;
    let name = plugins::name(&name.unwrap_or_default())?;
    let value = plugins::value(name, value)?;
    Ok(Plugin { id: id.to_owned(), created_at, name: name.to_owned(), value, enabled })
}

/// An API of these fields, as Kong reads it.
fn read(fields: Params, id: &str, created_at: u64) -> Result<Api, Answer> {
    let mut fields = Fields::of("", fields);
    let (name, public_dns, path) = (fields.text("name"), fields.text("public_dns"), fields.text("path"));
    let strip_path = fields.switch("strip_path");
    let preserve_host = fields.switch("preserve_host");
    let target_url = fields.text("target_url");
    for (name, it) in [("public_dns", &public_dns), ("path", &path)] {
        if path.is_none() && public_dns.is_none() && it.is_none() && !fields.errors.has(name) {
            fields.add(name, NEITHER);
        }
    }
    let public_dns = public_dns.and_then(|it| host(&it).map_err(|why| fields.add("public_dns", why)).ok());
    let path = path.and_then(|it| path_of(&it).map_err(|why| fields.add("path", why)).ok());
    let target_url = match target_url {
        Some(it) => target(&it).map_err(|why| fields.add("target_url", why)).ok(),
        None if fields.errors.has("target_url") => None,
        None => {
            fields.add("target_url", "target_url is required");
            None
        }
    };
    let target_url = target_url.map(|(_, url)| url).unwrap_or_default();
    let name = name.or_else(|| public_dns.clone());
    let api =
        Api { id: id.to_owned(), created_at, name, public_dns, path, strip_path, preserve_host, target_url };
    fields.end().none_or(400, api)
}

fn host(text: &str) -> Result<String, String> {
    let invalid = || format!("Invalid wildcard placement: {text}");
    match (text.matches('*').count(), text.find('*')) {
        (0, _) => {}
        (1, Some(0)) if text.starts_with("*.") => {}
        (1, Some(at)) if at + 1 == text.len() && text.ends_with(".*") => {
            return Err("a wildcard stands at the begin of a host here, as in *.example.org".to_owned());
        }
        (1, _) => return Err(invalid()),
        _ => return Err(format!("Only one wildcard is allowed: {text}")),
    }
    HostPattern::read(text).map(|it| it.to_string())
}

/// Without slashes at its end, and with one at its begin.
fn path_of(text: &str) -> Result<String, String> {
    let path = format!("/{}", text.trim_matches('/'));
    let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"._~/-".contains(&b);
    if !path.bytes().all(is_letter) {
        return Err("path must only contain alphanumeric and '. -, _, ~, /' characters".to_owned());
    }
    if path.contains("//") {
        return Err(format!("path is invalid: {path}"));
    }
    Ok(path)
}

/// Where a target is, and its URL as it is shown.
fn target(text: &str) -> Result<(Target, String), String> {
    let invalid = || "Invalid target URL".to_owned();
    let (scheme, rest) = text.split_once("://").filter(|(_, rest)| !rest.is_empty()).ok_or_else(invalid)?;
    let scheme = scheme.to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") {
        return Err("Supported protocols are HTTP and HTTPS".to_owned());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at(end);
    let target = Target::read(&format!("{scheme}://{authority}")).map_err(|_| invalid())?;
    if !matches!(behind, "" | "/") {
        return Err(
            "a target has no path here: requests are sent there as they come, or with the API's path cut \
                    (strip_path)"
                .to_owned(),
        );
    }
    Ok((target, format!("{scheme}://{authority}/")))
}

fn check_unique(api: &Api, apis: &[KnownApi]) -> Result<(), Answer> {
    let mut errors = Errors::default();
    for other in apis.iter().map(|it| &it.api).filter(|it| it.id != api.id) {
        let both = [
            ("name", &api.name, &other.name),
            ("public_dns", &api.public_dns, &other.public_dns),
            ("path", &api.path, &other.path),
        ];
        for (name, own, _) in both.iter().filter(|(_, own, theirs)| own.is_some() && own == theirs) {
            let value = own.as_deref().unwrap_or_default();
            if !errors.has(name) {
                errors.add(name, format!("{name} already exists with value '{value}'"));
            }
        }
    }
    errors.none_or(409, ())
}

/// Where an API's routes lead: to the nodes, or to a service of its own.
fn service_of(api: &Api, object: &str, asked: &Asked) -> Result<String, Answer> {
    let wrong = |why: String| Answer::field(400, "target_url", why);
    let (target, _) = target(&api.target_url).map_err(wrong)?;
    if asked.closed.has(&target) {
        let why = "requests are not sent there: it is this door, or an address of the cluster that is not for clients";
        return Err(wrong(why.to_owned()));
    }
    Ok(if asked.aliases.have(&target) { SKEP.to_owned() } else { object.to_owned() })
}

/// The objects that an API comes to.
fn derive(known: &KnownApi) -> Derived {
    let api = &known.api;
    let policies = plugins::policies(&known.plugins);
    let route = |matches: Value, strip_prefix: bool| {
        let mut route = Map::from_iter([
            ("match".to_owned(), matches),
            ("service".to_owned(), known.service.clone().into()),
        ]);
        if strip_prefix {
            route.insert("strip_prefix".to_owned(), true.into());
        }
        route.extend(policies.clone());
        Value::from(route)
    };
    let by_path = api.path.as_ref().map(|path| {
        let strips = api.strip_path == Some(true) && path != "/";
        route(json!({ "path": path }), strips)
    });
    // The path is cut only from requests that were found by it.
    let by_host = api.public_dns.as_ref().map(|host| route(json!({ "hosts": [host] }), false));
    let routes = names_of_routes(known).into_iter().zip(by_path.into_iter().chain(by_host)).collect();
    let service = (known.service != SKEP).then(|| {
        let url = api.target_url.trim_end_matches('/');
        let service = match api.preserve_host {
            Some(true) => json!({ "urls": [url] }),
            _ => json!({ "urls": [url], "host": "upstream" }),
        };
        (known.service.clone(), service)
    });
    Derived { routes, service }
}

#[cfg(test)]
mod tests;
