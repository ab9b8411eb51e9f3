//! The responses of Ray's State API about nodes.

use dagster_ray_sdk::{
    http::{Request, url},
    json::{Fields, Value},
};

/// Returns the request for one node: `GET /api/v0/nodes` with a filter, as in Ray's
/// `dashboard/state_api_utils.py`.
pub(crate) fn request(address: &str, node_id: &str) -> Request {
    let filter = format!("filter_keys=node_id&filter_predicates=%3D&filter_values={}", url::encode(node_id));
    Request::get(format!("{address}/api/v0/nodes?{filter}"))
}

/// Returns whether a response lists the node as dead. A node that is not listed may have been forgotten, or may
/// not have registered again with a restarted head.
///
/// # Errors
/// A message if the response has another form.
pub(crate) fn is_dead(response: &Value) -> Result<bool, String> {
    let nodes = &response["data"]["result"]["result"];
    let Some(nodes) = nodes.as_array() else { return Err("it contains no list of nodes".to_owned()) };
    for node in nodes {
        if Fields::from_value(node)?.string("state")?.as_deref() == Some("DEAD") {
            return Ok(true);
        }
    }
    Ok(false)
}
