//! What is held to a time: each of these takes the machine for itself.

mod ready;
mod seeds;
