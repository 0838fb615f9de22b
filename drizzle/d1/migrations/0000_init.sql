CREATE TABLE `agent_audit_log` (
	`user_id` text NOT NULL,
	`seq` integer NOT NULL,
	`at` integer NOT NULL,
	`kind` text NOT NULL,
	`session_id` text,
	`body` text NOT NULL,
	`hash` text NOT NULL,
	PRIMARY KEY(`user_id`, `seq`)
);
--> statement-breakpoint
CREATE INDEX `agent_audit_log_at` ON `agent_audit_log` ("at" desc);--> statement-breakpoint
CREATE INDEX `agent_audit_log_session` ON `agent_audit_log` (`session_id`,`seq`);--> statement-breakpoint
CREATE TABLE `agent_invocations` (
	`id` text PRIMARY KEY NOT NULL,
	`session_id` text NOT NULL,
	`node` text NOT NULL,
	`user_id` text NOT NULL,
	`agent_slug` text NOT NULL,
	`instance_id` text NOT NULL,
	`kind` text NOT NULL,
	`calls` integer NOT NULL,
	`errors` integer NOT NULL,
	`cost` integer NOT NULL,
	`first_at` integer NOT NULL,
	`last_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `agent_invocations_session` ON `agent_invocations` (`session_id`,`first_at`);--> statement-breakpoint
CREATE TABLE `agent_sessions` (
	`id` text PRIMARY KEY NOT NULL,
	`user_id` text NOT NULL,
	`client_id` text,
	`kind` text NOT NULL,
	`agent_slug` text,
	`instance_id` text,
	`started_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`ended_at` integer,
	`end_reason` text,
	`ended_by` text,
	`ip_address` text,
	`user_agent` text
);
--> statement-breakpoint
CREATE INDEX `agent_sessions_user_started` ON `agent_sessions` (`user_id`,"started_at" desc);--> statement-breakpoint
CREATE INDEX `agent_sessions_user_open` ON `agent_sessions` (`user_id`) WHERE "agent_sessions"."ended_at" is null;--> statement-breakpoint
CREATE INDEX `agent_sessions_started` ON `agent_sessions` ("started_at" desc,`id`);--> statement-breakpoint
CREATE TABLE `agents` (
	`id` text PRIMARY KEY NOT NULL,
	`user_id` text NOT NULL,
	`name` text NOT NULL,
	`scope` text NOT NULL,
	`cap` integer,
	`state` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `agents_user` ON `agents` (`user_id`);--> statement-breakpoint
CREATE TABLE `bootstraps` (
	`code_hash` text PRIMARY KEY NOT NULL,
	`user_id` text NOT NULL,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `users` (
	`id` text PRIMARY KEY NOT NULL,
	`username` text(64) NOT NULL,
	`password_hash` text NOT NULL,
	`tier` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `users_username_lower` ON `users` (lower("username"));