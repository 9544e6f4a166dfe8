// Package wal stores the Raft logs of all vBuckets of a host in one write-ahead log: one
// write and one flush make durable what every group had to save at that moment.
//
// The log is a sequence of segment files. Segments are made before they are needed and
// filled with zeros, so that a flush has no metadata of the file system to write along. What is
// saved at once is a frame; a frame is durable before the next one is written, so at most the
// last frame of the last segment can be torn by a crash. Each segment begins with a checkpoint
// of what every group has besides entries, so that the oldest segments can be removed as soon as
// no entry in them is needed.
//
// DESIGN.md has the format, the rules and what breaks without each of them.
package wal
