//! What a gateway's document comes to, said in this process: nobody is asked.

use std::io::Write;
use std::path::Path;

use serde_json::json;
use skep_console::verbs::{VerbError, print};
use skep_gateway::Fault;
use skep_gateway::explain::Question;

use crate::config::gateway;
use crate::gateway::unix_s;

/// Says what the document is, or all that is wrong with it; whether nothing is.
pub fn check(file: &Path, json: bool, out: &mut (dyn Write + Send)) -> Result<bool, VerbError> {
    let table = match gateway::read(file) {
        Ok(table) => table,
        Err(faults) => return refuse(&faults, json, out),
    };
    let (routes, services, consumers) =
        (table.routes.len(), table.services.len() - 1, table.consumers.count());
    let issuers = table.consumers.issuers().0.len();
    let certificates = table.certificates.all().len();
    let answer = json!({
        "routes": routes,
        "services": services,
        "consumers": consumers,
        "issuers": issuers,
        "certificates": certificates,
        "faults": [],
    });
    print(out, json, &answer, &format!("{routes} routes and {services} services: nothing is wrong"))?;
    Ok(true)
}

fn refuse(faults: &[Fault], json: bool, out: &mut (dyn Write + Send)) -> Result<bool, VerbError> {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    print(out, json, &json!({ "faults": faults }), &lines.join("\n"))?;
    Ok(false)
}

/// Says which route would have a request, and what would become of it there; whether it would go anywhere.
pub fn explain(
    file: &Path,
    question: &Question,
    json: bool,
    out: &mut (dyn Write + Send),
) -> Result<bool, VerbError> {
    let table = match gateway::read(file) {
        Ok(table) => table,
        Err(faults) => return refuse(&faults, json, out),
    };
    let explained = question.explain(&table, unix_s());
    print(out, json, &serde_json::to_value(&explained).unwrap_or_default(), &explained.to_string())?;
    Ok(explained.sent.is_some())
}
