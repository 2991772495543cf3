//! The tree of a table: hosts, segments of paths, and the routes that are for what they come to.
//!
//! Laid out for who looks. Among many routes hardly any step is in a cache, so that what counts is how many lines of
//! memory it takes: a node is one, a short name stands where it is compared, one route by itself needs no list, and what
//! has nothing below it needs no node.

use std::collections::HashMap;

use compact_str::CompactString;

use crate::host::{HostPattern, parents};
use crate::path::{PathPattern, bare, has_params, segments};

type Named<T> = HashMap<CompactString, T, foldhash::fast::RandomState>;

/// Of hosts the nodes at which their paths begin, and all nodes.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// Where there are several.
    lists: Vec<Vec<u32>>,
    exact: Named<u32>,
    below: Named<u32>,
}

/// Where paths of any host begin.
const ANY: u32 = 0;

/// The end of so many segments.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Node {
    /// For just this path.
    exact: Routes,
    /// For this path and all below it.
    prefix: Routes,
    below: Below,
}

#[derive(Debug, Default)]
enum Below {
    #[default]
    None,
    One(CompactString, Child),
    More(Box<Named<Child>>),
}

/// What a segment leads to.
#[derive(Debug, Clone, Copy)]
enum Child {
    Node(u32),
    /// A route that is for this path and all below it, which is all there is.
    Route(u32),
}

/// The routes of a host and path: by their places in the table, those first that say most of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Routes {
    #[default]
    None,
    One(u32),
    /// A list, by its place.
    Several(u32),
}

impl Default for Tree {
    fn default() -> Self {
        let (exact, below) = (Named::default(), Named::default());
        Self { nodes: vec![Node::default()], lists: Vec::new(), exact, below }
    }
}

impl Tree {
    /// Plants a route of that host, or of any; `before` says whether another comes before it. False where `most` are
    /// there already.
    pub fn plant(
        &mut self,
        host: Option<&HostPattern>,
        path: &PathPattern,
        route: u32,
        most: usize,
        before: impl Fn(u32) -> bool,
    ) -> bool {
        let mut node = match host {
            None => ANY,
            Some(host) => self.root(host),
        };
        let (path, is_prefix) = match path {
            PathPattern::Exact(path) => (path.as_str(), false),
            PathPattern::Prefix(path) => (path.as_str(), true),
        };
        let mut left = segments(path).filter(|_| !path.is_empty()).peekable();
        while let Some(segment) = left.next() {
            let below = self.nodes[node as usize].below.get(segment);
            let is_all = is_prefix && left.peek().is_none();
            node = match below {
                Some(Child::Node(child)) => child,
                None if is_all => {
                    self.nodes[node as usize].below.insert(segment, Child::Route(route));
                    return true;
                }
                None | Some(Child::Route(_)) => {
                    let child = grown(&mut self.nodes);
                    if let Some(Child::Route(other)) = below {
                        self.nodes[child as usize].prefix = Routes::One(other);
                    }
                    self.nodes[node as usize].below.insert(segment, Child::Node(child));
                    child
                }
            };
        }
        let node = &mut self.nodes[node as usize];
        let routes = if is_prefix { &mut node.prefix } else { &mut node.exact };
        match *routes {
            Routes::None => *routes = Routes::One(route),
            Routes::One(other) => {
                let list = if before(other) { vec![other, route] } else { vec![route, other] };
                *routes = Routes::Several(place(self.lists.len()));
                self.lists.push(list);
            }
            Routes::Several(at) => {
                let list = &mut self.lists[at as usize];
                if list.len() == most {
                    return false;
                }
                list.insert(list.partition_point(|other| before(*other)), route);
            }
        }
        true
    }

    fn root(&mut self, host: &HostPattern) -> u32 {
        let (hosts, host) = match host {
            HostPattern::Exact(host) => (&mut self.exact, host),
            HostPattern::Below(host) => (&mut self.below, host),
        };
        let nodes = &mut self.nodes;
        *hosts.entry(host.as_str().into()).or_insert_with(|| grown(nodes))
    }

    /// The route of the longest host and path that has one that fits.
    pub fn find(&self, host: &str, path: &str, fits: impl Fn(u32) -> bool) -> Option<u32> {
        let below = |root: &u32| self.find_below(*root, path, &fits);
        let wider = || {
            let parents = parents(host).filter(|_| !self.below.is_empty());
            parents.filter_map(|host| self.below.get(host)).find_map(below)
        };
        let exact = self.exact.get(host).and_then(below);
        exact.or_else(wider).or_else(|| below(&ANY))
    }

    fn find_below(&self, root: u32, path: &str, fits: impl Fn(u32) -> bool) -> Option<u32> {
        let first = |routes: Routes| match routes {
            Routes::None => None,
            Routes::One(one) => Some(one).filter(|it| fits(*it)),
            Routes::Several(at) => self.lists[at as usize].iter().copied().find(|it| fits(*it)),
        };
        let mut node = &self.nodes[root as usize];
        let mut best = first(node.prefix);
        let has_params = has_params(path);
        for segment in segments(path) {
            match node.below.get(if has_params { bare(segment) } else { segment }) {
                Some(Child::Node(below)) => node = &self.nodes[below as usize],
                Some(Child::Route(one)) => return Some(one).filter(|it| fits(*it)).or(best),
                None => return best,
            }
            best = first(node.prefix).or(best);
        }
        first(node.exact).or(best)
    }
}

impl Below {
    fn get(&self, segment: &str) -> Option<Child> {
        match self {
            Self::None => None,
            Self::One(name, child) => Some(*child).filter(|_| name == segment),
            Self::More(named) => named.get(segment).copied(),
        }
    }

    /// In place of what it led to, where that is there.
    fn insert(&mut self, segment: &str, child: Child) {
        *self = match std::mem::take(self) {
            Self::None => Self::One(segment.into(), child),
            Self::One(name, _) if name == segment => Self::One(name, child),
            Self::One(name, other) => {
                Self::More(Box::new(Named::from_iter([(name, other), (segment.into(), child)])))
            }
            Self::More(mut named) => {
                named.insert(segment.into(), child);
                Self::More(named)
            }
        }
    }
}

fn grown(nodes: &mut Vec<Node>) -> u32 {
    nodes.push(Node::default());
    place(nodes.len() - 1)
}

/// There are fewer than [`super::NODES_MAX`] of anything, and their hosts' roots.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_one_line_of_memory() {
        assert_eq!(size_of::<Node>(), 64);
    }
}
