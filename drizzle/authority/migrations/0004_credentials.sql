CREATE TABLE `credential_handouts` (
	`path` text NOT NULL,
	`role` text NOT NULL,
	`owner` text NOT NULL,
	`until` integer NOT NULL,
	PRIMARY KEY(`path`, `role`)
);
--> statement-breakpoint
CREATE TABLE `credentials` (
	`key` text PRIMARY KEY NOT NULL,
	`role` text NOT NULL,
	`path` text NOT NULL,
	`made_at` integer NOT NULL,
	`expires_at` integer NOT NULL,
	`used_at` integer NOT NULL,
	`served` integer NOT NULL,
	`sealed` text,
	`kid` text,
	`dropped_at` integer
);
--> statement-breakpoint
CREATE INDEX `credentials_path` ON `credentials` (`path`);--> statement-breakpoint
CREATE INDEX `credentials_expires` ON `credentials` (`expires_at`);--> statement-breakpoint
CREATE TABLE `foreign_tokens` (
	`issuer` text NOT NULL,
	`jti` text NOT NULL,
	`expires_at` integer NOT NULL,
	PRIMARY KEY(`issuer`, `jti`)
);
--> statement-breakpoint
CREATE INDEX `foreign_tokens_expires` ON `foreign_tokens` (`expires_at`);