// Package systemctl is for tests: a systemd of one machine, as far as a service of ours
// and instance control need it, and the command systemctl that speaks to it. It starts
// real processes by real unit files, which it reads as package unitfile does.
//
// A Manager is a process of its own, the machine's service manager: with it ends
// everything that it has started, as on a machine that loses its power. What it knows
// is in its memory; its directory has its socket and what the services wrote.
//
// It does what systemd does where that matters here:
//
//   - Unit files and drop-ins are read when a unit is first named, and at daemon-reload;
//     nothing else makes it see a change. /etc goes before /run and that before /usr/lib,
//     so that a mask in /run does not hold a unit that is in /etc.
//   - A start whose AssertPathExists= does not hold fails, also that of Restart=.
//   - Restart= starts anew after RestartSec=, unless StartLimitBurst= was reached.
//   - A stop signals the whole group, and kills it after TimeoutStopSec=. Before it
//     returns the main process was reaped, and the rest of the group killed.
//   - A service that is to end (oneshot) is waited for, unless with --no-block, and a timer
//     starts its service again and again. What is enabled starts by the verb default, as
//     when a machine starts: the manager itself starts nothing.
//   - SIGCONT follows the signal of a stop, so that a frozen process sees it.
//
// What it does not know of a unit it refuses by name, but for settings that say as whom a
// service runs, what it may not do and how much it may take. Verbs and options that it
// does not know fail.
package systemctl
