//! The program by itself, at a server that speaks the workers' routes, well or badly.

mod bad_servers;
mod flags;
mod quiet;
mod running;
mod server;
mod ways;
