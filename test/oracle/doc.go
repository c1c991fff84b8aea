// Package oracle is the plain truth that the engine is held to: a map from key
// to value, folded from the frames of a log one operation at a time. It shares
// no code with the state store, the recovery or the row builder; what it shares
// with the product are the byte formats.
package oracle
