"""The floor that moves work: Redis connection, jobs, workers, triggers, janitor."""
