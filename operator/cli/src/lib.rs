//! `kubectl virga`: why is an Instance where it is, where would others go, and how are they wired?
//!
//! | question | module |
//! |---|---|
//! | what was asked for? | [`flags`] |
//! | what do the manifests say? | [`manifests`] |
//! | what is there? | [`objects`] |
//! | by which rules is decided? | [`profile`] |
//! | what does the scheduler see of it? | [`index`] |
//! | where would these Instances go? | [`simulate`] |
//! | how full are the hosts? | [`usage`] |
//! | how full would the hosts be, as a picture? | [`plot`] |
//! | what may the user see of the cluster? | [`cluster`] |
//! | why is this Instance there, or nowhere? | [`explain`] |
//! | how are Instances wired? | [`net`] |
//! | how is it said? | [`words`] |
//!
//! Nothing here decides: hosts, requests and decisions are made by the controller's own code.

pub mod cluster;
pub mod explain;
pub mod flags;
pub mod index;
pub mod manifests;
pub mod net;
pub mod objects;
pub mod plot;
pub mod profile;
pub mod simulate;
pub mod usage;
pub mod words;
