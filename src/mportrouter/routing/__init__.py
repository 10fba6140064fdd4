"""From a request and a snapshot of state to a plan: pure, and able to say why."""
