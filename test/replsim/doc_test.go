// Package replsim simulates an instance of several nodes in one process.
package replsim
