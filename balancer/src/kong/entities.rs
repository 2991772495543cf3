//! Kong's entities in the gateway's document: an API is a route or two and a service, a consumer is a consumer. What the
//! document cannot say of them lies in the routes and consumers themselves, as their note (`kong`), so that one that is
//! taken out is no entity any more. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use skep_gateway::document::{NAME_BYTES_MAX, SKEP, sources};

use super::answer::Answer;

/// What stands behind the name of the second route of an API that has two.
const OF_HOST: &str = ".dns";

/// The member of an object that says whose it is.
const SOURCE: &str = "source";

/// An API as Kong shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Api {
    pub id: String,
    /// In milliseconds of Unix time.
    pub created_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_dns: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strip_path: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preserve_host: Option<bool>,
    pub target_url: String,
}

/// What is asked of an API's requests, as Kong shows it, but for the API's id.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plugin {
    pub id: String,
    pub created_at: u64,
    pub name: String,
    pub value: Map<String, Value>,
    pub enabled: bool,
}

/// A consumer as Kong shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consumer {
    pub id: String,
    pub created_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_id: Option<String>,
}

/// The note of a route. All of an API say the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NoteOfApi {
    api: Api,
    /// What its routes were called, and where they led: whoever changes them otherwise makes no other API of it.
    object: String,
    service: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    plugins: Vec<Plugin>,
}

/// The note of a consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct NoteOfConsumer {
    consumer: Consumer,
    /// When each of its keys was made, by the key's id, which is its label.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    keys: Map<String, Value>,
    /// Ids of its passwords and when each was made, by the user's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    passwords: BTreeMap<String, MadePassword>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct MadePassword {
    id: String,
    created_at: u64,
}

/// An API as it stands in a document.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownApi {
    pub api: Api,
    pub plugins: Vec<Plugin>,
    /// The name of its routes, the second of which has something behind it, and of its service.
    pub object: String,
    /// Where the door has its routes lead: `skep`, or a service of that name.
    pub service: String,
}

/// A key of a consumer as it stands in a document.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownKey {
    pub id: String,
    pub created_at: u64,
    /// What is kept of it.
    pub kept: String,
}

/// A user's password of a consumer as it stands in a document.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownPassword {
    pub id: String,
    pub created_at: u64,
    pub user: String,
    /// What is kept of it.
    pub kept: String,
}

/// A consumer as it stands in a document.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownConsumer {
    pub consumer: Consumer,
    pub object: String,
    pub keys: Vec<KnownKey>,
    pub passwords: Vec<KnownPassword>,
}

/// The gateway's document as a tree of JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document(pub Map<String, Value>);

impl Document {
    fn objects(&self, kind: &str) -> impl Iterator<Item = (&String, &Value)> {
        self.0.get(kind).and_then(Value::as_object).into_iter().flatten()
    }

    pub fn object(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.get(kind)?.get(name)
    }

    pub fn put(&mut self, kind: &str, name: &str, value: Value) {
        let objects = self.0.entry(kind).or_insert_with(|| json!({}));
        if let Some(objects) = objects.as_object_mut() {
            objects.insert(name.to_owned(), value);
        }
    }

    pub fn remove(&mut self, kind: &str, name: &str) {
        let Some(objects) = self.0.get_mut(kind).and_then(Value::as_object_mut) else { return };
        objects.remove(name);
        if objects.is_empty() {
            self.0.remove(kind);
        }
    }

    /// The APIs that were put through this door, the oldest first.
    pub fn apis(&self) -> Vec<KnownApi> {
        let mut apis: Vec<KnownApi> = Vec::new();
        for (_, NoteOfApi { api, object, service, plugins }) in self.noted_routes() {
            // Another route of it says the same.
            if apis.iter().all(|it| it.api.id != api.id) {
                apis.push(KnownApi { api, plugins, object, service });
            }
        }
        apis.sort_by(|a, b| (a.api.created_at, &a.api.id).cmp(&(b.api.created_at, &b.api.id)));
        apis
    }

    /// The routes that this door put, and what it noted of their APIs.
    fn noted_routes(&self) -> impl Iterator<Item = (&String, NoteOfApi)> {
        self.objects("routes").filter_map(|(name, route)| {
            Some((name, serde_json::from_value(route.get("kong")?.clone()).ok()?))
        })
    }

    /// The names of an API's routes, whoever gave them these.
    fn routes_of(&self, id: &str) -> Vec<String> {
        let own = self.noted_routes().filter(|(_, note)| note.api.id == id);
        own.map(|(name, _)| name.clone()).collect()
    }

    /// The consumers that were put through this door, the oldest first.
    pub fn consumers(&self) -> Vec<KnownConsumer> {
        let known = |(name, value): (&String, &Value)| {
            let NoteOfConsumer { consumer, keys: times, passwords: made } =
                serde_json::from_value(value.get("kong")?.clone()).ok()?;
            let list = |name: &str| value.get(name).and_then(Value::as_array).into_iter().flatten();
            let key = |it: &Value| {
                let id = it.get("label")?.as_str()?.to_owned();
                let created_at = times.get(&id)?.as_u64()?;
                Some(KnownKey { id, created_at, kept: it.get("key")?.as_str()?.to_owned() })
            };
            let password = |it: &Value| {
                let user = it.get("user")?.as_str()?.to_owned();
                let MadePassword { id, created_at } = made.get(&user)?.clone();
                Some(KnownPassword { id, created_at, user, kept: it.get("password")?.as_str()?.to_owned() })
            };
            Some(KnownConsumer {
                consumer,
                object: name.clone(),
                keys: list("keys").filter_map(key).collect(),
                passwords: list("passwords").filter_map(password).collect(),
            })
        };
        let mut all: Vec<KnownConsumer> = self.objects("consumers").filter_map(known).collect();
        all.sort_by(|a, b| {
            (a.consumer.created_at, &a.consumer.id).cmp(&(b.consumer.created_at, &b.consumer.id))
        });
        all
    }

    /// The names of all users who have passwords, also of those that operators gave consumers.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.objects("consumers").flat_map(|(name, value)| {
            let all = value.get("passwords").and_then(Value::as_array).into_iter().flatten();
            all.map(|it| it.get("user").and_then(Value::as_str).unwrap_or(name))
        })
    }

    /// A name for the objects of what people call so: that, where it can be one and none has it in any of these kinds.
    fn name_for(&self, kinds: &[&str], wanted: Option<&str>, id: &str) -> String {
        let is_letter = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
        let fits = |name: &&str| {
            name.len() + OF_HOST.len() <= NAME_BYTES_MAX
                && name.bytes().all(is_letter)
                && *name != SKEP
                && !kinds.iter().any(|kind| self.object(kind, name).is_some())
                && self.object("routes", &format!("{name}{OF_HOST}")).is_none()
        };
        wanted.filter(fits).map_or_else(|| format!("kong-{id}"), str::to_owned)
    }

    /// A name for the objects of an API.
    pub fn name_of_api(&self, api: &Api) -> String {
        self.name_for(&["routes", "services"], api.name.as_deref(), &api.id)
    }

    /// A name for the object of a consumer.
    pub fn name_of_consumer(&self, consumer: &Consumer) -> String {
        self.name_for(&["consumers"], consumer.username.as_deref(), &consumer.id)
    }

    /// Puts the objects that an API comes to, which `derived` has without their note.
    pub fn put_api(&mut self, known: &KnownApi, derived: Derived) {
        let KnownApi { api, plugins, object, service } = known.clone();
        let note = NoteOfApi { api, object, service, plugins };
        let note = serde_json::to_value(note).unwrap_or_default();
        for (name, mut route) in derived.routes {
            if let Some(fields) = route.as_object_mut() {
                fields.insert("kong".to_owned(), note.clone());
                fields.insert(SOURCE.to_owned(), sources::KONG.into());
            }
            self.put("routes", &name, route);
        }
        if let Some((name, mut service)) = derived.service {
            if let Some(fields) = service.as_object_mut() {
                fields.insert(SOURCE.to_owned(), sources::KONG.into());
            }
            self.put("services", &name, service);
        }
    }

    /// That an object is not another source's. One that says nothing of it may be of a door of before.
    pub fn is_own(&self, kind: &str, name: &str) -> Result<(), Answer> {
        match self.object(kind, name).and_then(|it| it.get(SOURCE)).and_then(Value::as_str) {
            Some(other) if other != sources::KONG && other != sources::API => {
                let detail = format!("{kind}/{name} is of the source '{other}' by now: it is changed there");
                Err(Answer::message(409, detail))
            }
            _ => Ok(()),
        }
    }

    /// That no route of an API is.
    pub fn are_own(&self, known: &KnownApi) -> Result<(), Answer> {
        self.routes_of(&known.api.id).iter().try_for_each(|name| self.is_own("routes", name))
    }

    /// Takes an API out, and its service, where no other route leads there.
    pub fn remove_api(&mut self, known: &KnownApi) {
        for name in self.routes_of(&known.api.id) {
            self.remove("routes", &name);
        }
        let leads = |route: &Value| {
            let one = route.get("service").and_then(Value::as_str) == Some(&known.service);
            one || route.get("services").is_some_and(|all| all.get(&known.service).is_some())
        };
        let is_own = known.service == known.object && self.is_own("services", &known.service).is_ok();
        if is_own && !self.objects("routes").any(|(_, route)| leads(route)) {
            self.remove("services", &known.service);
        }
    }

    /// Whether its objects are what the door made of it, or who has changed them otherwise.
    pub fn is_as_derived(&self, known: &KnownApi, derived: &Derived) -> Result<(), Answer> {
        let changed = |kind: &str, name: &str| {
            let detail = format!(
                "{kind}/{name} was changed otherwise since, which would be lost here: change it with `skep-node config \
                 apply`, or delete the API and add it again"
            );
            Err(Answer::message(409, detail))
        };
        self.are_own(known)?;
        let is_derived = |name: &String| derived.routes.iter().any(|(it, _)| it == name);
        if let Some(other) = self.routes_of(&known.api.id).iter().find(|it| !is_derived(it)) {
            return changed("routes", other);
        }
        for (kind, name, expected) in derived.objects() {
            self.is_own(kind, name)?;
            let mut there = self.object(kind, name).cloned().unwrap_or_default();
            if let Some(fields) = there.as_object_mut() {
                fields.remove("kong");
                fields.remove(SOURCE);
            }
            if there != *expected {
                return changed(kind, name);
            }
        }
        Ok(())
    }

    /// That what an API comes to anew takes the place of nothing else.
    pub fn is_free(&self, before: &Derived, next: &Derived) -> Result<(), Answer> {
        let is_new = |kind: &str, name: &str| match kind {
            "routes" => before.routes.iter().all(|(it, _)| it != name),
            _ => before.service.as_ref().is_none_or(|(it, _)| it != name),
        };
        let objects = next.objects().filter(|(kind, name, _)| is_new(kind, name));
        match objects.into_iter().find(|(kind, name, _)| self.object(kind, name).is_some()) {
            None => Ok(()),
            Some((kind, name, _)) => {
                let detail = format!("{kind}/{name} is there, and is none of this API's: it would be lost");
                Err(Answer::message(409, detail))
            }
        }
    }

    pub fn put_consumer(&mut self, known: &KnownConsumer) {
        let times = known.keys.iter().map(|key| (key.id.clone(), key.created_at.into())).collect();
        let made = |it: &KnownPassword| MadePassword { id: it.id.clone(), created_at: it.created_at };
        let note = NoteOfConsumer {
            consumer: known.consumer.clone(),
            keys: times,
            passwords: known.passwords.iter().map(|it| (it.user.clone(), made(it))).collect(),
        };
        let mut object =
            self.object("consumers", &known.object).and_then(Value::as_object).cloned().unwrap_or_default();
        let keys = known.keys.iter().map(|key| json!({ "key": key.kept, "label": key.id })).collect();
        let passwords =
            known.passwords.iter().map(|it| json!({ "user": it.user, "password": it.kept })).collect();
        for (list, name, own) in [("keys", "label", keys), ("passwords", "user", passwords)] {
            put_own(&mut object, list, name, own);
        }
        object.insert("kong".to_owned(), serde_json::to_value(note).unwrap_or_default());
        object.insert(SOURCE.to_owned(), sources::KONG.into());
        self.put("consumers", &known.object, object.into());
    }
}

/// Puts these in the place of those that the door noted in a consumer's list, each by its name; others stay: operators
/// gave it those.
fn put_own(object: &mut Map<String, Value>, list: &str, name: &str, own: Vec<Value>) {
    let noted = object.get("kong").and_then(|note| note.get(list)).and_then(Value::as_object).cloned();
    let noted = noted.unwrap_or_default();
    let is_noted = |it: &Value| it.get(name).and_then(Value::as_str).is_some_and(|it| noted.contains_key(it));
    let mut all: Vec<Value> = object.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
    all.retain(|it| !is_noted(it));
    all.extend(own);
    match all.is_empty() {
        true => drop(object.remove(list)),
        false => drop(object.insert(list.to_owned(), all.into())),
    }
}

/// The objects that an API comes to, without notes.
#[derive(Debug, Clone, PartialEq)]
pub struct Derived {
    /// By name.
    pub routes: Vec<(String, Value)>,
    /// By name. None: the nodes.
    pub service: Option<(String, Value)>,
}

impl Derived {
    /// All of them, with their kind and name.
    fn objects(&self) -> impl Iterator<Item = (&'static str, &str, &Value)> {
        let routes = self.routes.iter().map(|(name, route)| ("routes", name.as_str(), route));
        routes.chain(self.service.iter().map(|(name, service)| ("services", name.as_str(), service)))
    }
}

/// The names of an API's routes: the one for its path first.
pub fn names_of_routes(known: &KnownApi) -> Vec<String> {
    match (&known.api.path, &known.api.public_dns) {
        (Some(_), Some(_)) => vec![known.object.clone(), format!("{}{OF_HOST}", known.object)],
        _ => vec![known.object.clone()],
    }
}

/// An entity as it is shown.
pub fn shown(entity: &impl Serialize) -> Value {
    serde_json::to_value(entity).unwrap_or_default()
}

impl Plugin {
    pub fn shown(&self, api: &Api) -> Value {
        let mut shown = shown(self);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("api_id".to_owned(), api.id.clone().into());
        }
        shown
    }
}

impl KnownKey {
    /// With the key itself where that is known, as when it was just made.
    pub fn shown(&self, consumer: &Consumer, key: Option<&str>) -> Value {
        json!({
            "id": self.id,
            "created_at": self.created_at,
            "consumer_id": consumer.id,
            "key": key.unwrap_or(&self.kept),
        })
    }
}

impl KnownPassword {
    /// With what is kept of it in its place.
    pub fn shown(&self, consumer: &Consumer) -> Value {
        json!({
            "id": self.id,
            "created_at": self.created_at,
            "consumer_id": consumer.id,
            "username": self.user,
            "password": self.kept,
        })
    }
}
