//! Volumes: what an agent does about them.
