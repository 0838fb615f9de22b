CREATE TABLE `credential_uses` (
	`role` text PRIMARY KEY NOT NULL,
	`answers` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `exchange_attempts` (
	`id` integer PRIMARY KEY NOT NULL,
	`role` text NOT NULL,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `exchange_attempts_role` ON `exchange_attempts` (`role`,`at`);--> statement-breakpoint
CREATE TABLE `exchange_failures` (
	`key` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`code` text NOT NULL,
	`until` integer NOT NULL,
	`failures` integer NOT NULL
);
--> statement-breakpoint
ALTER TABLE `credentials` DROP COLUMN `served`;