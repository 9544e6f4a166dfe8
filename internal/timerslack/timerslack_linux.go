package timerslack

import "C" // for timerslack_linux.c
