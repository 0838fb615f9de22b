CREATE TABLE `agents` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`alg` text NOT NULL,
	`jwk` text NOT NULL,
	`scope` text NOT NULL,
	`cap` integer,
	`stop_count` integer NOT NULL,
	`state` text NOT NULL,
	`created_at` integer NOT NULL,
	`settled` integer NOT NULL,
	`day` integer NOT NULL,
	`settled_day` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `assertions` (
	`agent_id` text NOT NULL,
	`jti` text NOT NULL,
	`expires_at` integer NOT NULL,
	PRIMARY KEY(`agent_id`, `jti`)
);
--> statement-breakpoint
CREATE INDEX `assertions_expires` ON `assertions` (`expires_at`);--> statement-breakpoint
CREATE TABLE `audit` (
	`seq` integer PRIMARY KEY NOT NULL,
	`at` integer NOT NULL,
	`kind` text NOT NULL,
	`session` text,
	`body` text NOT NULL,
	`hash` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `connections` (
	`id` text PRIMARY KEY NOT NULL,
	`path` text NOT NULL,
	`session` text NOT NULL,
	`slug` text NOT NULL,
	`instance` text NOT NULL,
	`worker` text NOT NULL,
	`object` text NOT NULL,
	`tier` text NOT NULL,
	`actors` text NOT NULL,
	`scope` text NOT NULL,
	`agents` text,
	`opened_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`closing` integer,
	`messages` integer NOT NULL,
	`cost` integer NOT NULL,
	`last_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `connections_session` ON `connections` (`session`);--> statement-breakpoint
CREATE INDEX `connections_expires` ON `connections` (`expires_at`);--> statement-breakpoint
CREATE TABLE `counters` (
	`name` text PRIMARY KEY NOT NULL,
	`value` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `due` (
	`kind` text NOT NULL,
	`key` text NOT NULL,
	`at` integer NOT NULL,
	`tries` integer NOT NULL,
	PRIMARY KEY(`kind`, `key`)
);
--> statement-breakpoint
CREATE INDEX `due_at` ON `due` (`at`);--> statement-breakpoint
CREATE TABLE `grants` (
	`path` text PRIMARY KEY NOT NULL,
	`session` text NOT NULL,
	`client_id` text NOT NULL,
	`actors` text NOT NULL,
	`scope` text NOT NULL,
	`agents` text,
	`audience` text,
	`opened_at` integer NOT NULL,
	`expires_seconds` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `grants_session` ON `grants` (`session`);--> statement-breakpoint
CREATE INDEX `grants_client` ON `grants` (`client_id`);--> statement-breakpoint
CREATE TABLE `holds` (
	`id` text PRIMARY KEY NOT NULL,
	`path` text NOT NULL,
	`session` text NOT NULL,
	`call_id` text NOT NULL,
	`slug` text NOT NULL,
	`instance` text NOT NULL,
	`level` text NOT NULL,
	`kind` text NOT NULL,
	`amount` integer NOT NULL,
	`day` integer NOT NULL,
	`admitted_at` integer NOT NULL,
	`envelope_ends` integer NOT NULL,
	`deadline` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `holds_call` ON `holds` (`call_id`);--> statement-breakpoint
CREATE INDEX `holds_session` ON `holds` (`session`);--> statement-breakpoint
CREATE INDEX `holds_deadline` ON `holds` (`deadline`);--> statement-breakpoint
CREATE TABLE `idempotency` (
	`scope` text NOT NULL,
	`key` text NOT NULL,
	`digest` text NOT NULL,
	`effect` text,
	`expires_at` integer NOT NULL,
	PRIMARY KEY(`scope`, `key`)
);
--> statement-breakpoint
CREATE INDEX `idempotency_expires` ON `idempotency` (`expires_at`);--> statement-breakpoint
CREATE TABLE `nodes` (
	`path` text PRIMARY KEY NOT NULL,
	`session` text NOT NULL,
	`kind` text NOT NULL,
	`content` text,
	`cap` integer,
	`settled` integer NOT NULL,
	`day` integer NOT NULL,
	`settled_day` integer NOT NULL,
	`live_until_seconds` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `nodes_session` ON `nodes` (`session`);--> statement-breakpoint
CREATE INDEX `nodes_live` ON `nodes` (`live_until_seconds`);--> statement-breakpoint
CREATE TABLE `noted_users` (
	`agent_id` text NOT NULL,
	`user_id` text NOT NULL,
	`noted_at` integer NOT NULL,
	`told_stop_count` integer NOT NULL,
	PRIMARY KEY(`agent_id`, `user_id`)
);
--> statement-breakpoint
CREATE TABLE `outcomes` (
	`hold_id` text PRIMARY KEY NOT NULL,
	`outcome` text NOT NULL,
	`cost` integer NOT NULL,
	`at` integer NOT NULL,
	FOREIGN KEY (`hold_id`) REFERENCES `holds`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE INDEX `outcomes_at` ON `outcomes` (`at`);--> statement-breakpoint
CREATE TABLE `sessions` (
	`id` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`client_id` text,
	`opened_at` integer NOT NULL,
	`expires_seconds` integer NOT NULL,
	`ended_at` integer,
	`slug` text,
	`instance` text,
	`folded` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `sessions_open` ON `sessions` (`ended_at`,`expires_seconds`);--> statement-breakpoint
CREATE TABLE `stops` (
	`path` text PRIMARY KEY NOT NULL,
	`session` text NOT NULL,
	`at` integer NOT NULL,
	`why` text NOT NULL,
	`by_kind` text NOT NULL,
	`by_id` text NOT NULL,
	`note` text,
	`fence_at` integer NOT NULL,
	`sockets` integer NOT NULL,
	`grants` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `stops_session` ON `stops` (`session`);--> statement-breakpoint
CREATE TABLE `tallies` (
	`path` text NOT NULL,
	`slug` text NOT NULL,
	`instance` text NOT NULL,
	`minute` integer NOT NULL,
	`session` text NOT NULL,
	`calls` integer NOT NULL,
	`errors` integer NOT NULL,
	`cost` integer NOT NULL,
	`first_at` integer NOT NULL,
	`last_at` integer NOT NULL,
	PRIMARY KEY(`path`, `slug`, `instance`, `minute`)
);
--> statement-breakpoint
CREATE TABLE `told_stops` (
	`agent_id` text PRIMARY KEY NOT NULL,
	`stop_count` integer NOT NULL,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `user` (
	`id` text PRIMARY KEY NOT NULL,
	`username` text NOT NULL,
	`tier` text NOT NULL,
	`state` text NOT NULL,
	`created_at` integer NOT NULL,
	`settled` integer NOT NULL,
	`day` integer NOT NULL,
	`settled_day` integer NOT NULL
);
